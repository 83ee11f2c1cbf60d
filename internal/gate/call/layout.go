package call

import (
	"fmt"

	"github.com/stopguard/stopguard/internal/gate/wire"
)

// The arguments of a procedure, a letter each:
//
//	D domain   N snapshot or checkpoint: its name, then a domain   x domain XML   o optional domain XML
//	V volume   P storage pool
//	s string   S optional string   a array of strings   c cookie   p typed parameters
//	u int      U hyper             A array of ints      f flags    F flags in a hyper
//
// The table may leave out the arguments behind the last one that is used.
type arguments struct {
	uuid    string
	name    string // of the domain
	xml     string
	hasXML  bool
	strings []string // s, and S ("" if it is absent)
	numbers []uint64 // u and U
	flags   uint64
	array   []uint32          // elements of A
	params  map[string]string // typed parameters that are strings
	pool    Pool
	volume  string // its name in the pool; "" for a pool
}

func read(layout string, data []byte) (arguments, error) {
	d := wire.Decode(data)
	var a arguments
	for _, kind := range layout {
		switch kind {
		case 'N':
			_ = d.String()
			fallthrough
		case 'D':
			a.name, a.uuid = d.String(), d.UUID()
			d.Uint32() // libvirtd ignores the id
		case 'V':
			a.pool.Name, a.volume = d.String(), d.String()
			_ = d.String() // libvirtd ignores the key
		case 'P':
			a.pool.Name, a.pool.UUID = d.String(), d.UUID()
		case 'x':
			a.xml, a.hasXML = d.String(), true
		case 'o':
			if d.Bool() {
				a.xml, a.hasXML = d.String(), true
			}
		case 's':
			a.strings = append(a.strings, d.String())
		case 'S':
			s := ""
			if d.Bool() {
				s = d.String()
			}
			a.strings = append(a.strings, s)
		case 'a':
			for n := d.Uint32(); n > 0 && d.Err() == nil; n-- {
				_ = d.String()
			}
		case 'A':
			for n := d.Uint32(); n > 0 && d.Err() == nil; n-- {
				a.array = append(a.array, d.Uint32())
			}
		case 'c':
			d.Opaque()
		case 'p':
			a.params = params(d)
		case 'u':
			a.numbers = append(a.numbers, uint64(d.Uint32()))
		case 'U':
			a.numbers = append(a.numbers, d.Uint64())
		case 'f':
			a.flags = uint64(d.Uint32())
		case 'F':
			a.flags = d.Uint64()
		default:
			return a, fmt.Errorf("the layout %q has a letter that means nothing; report this", layout)
		}
	}
	return a, d.Err()
}

// params returns the typed parameters that are strings. If a name occurs twice, the first one wins,
// as in libvirt.
func params(d *wire.Decoder) map[string]string {
	const (
		isInt, isUint, isLong, isUlong, isDouble, isBool, isString = 1, 2, 3, 4, 5, 6, 7
	)
	found := map[string]string{}
	for n := d.Uint32(); n > 0 && d.Err() == nil; n-- {
		field := d.String()
		switch d.Uint32() {
		case isInt, isUint, isBool:
			d.Uint32()
		case isLong, isUlong, isDouble:
			d.Uint64()
		case isString:
			if value := d.String(); d.Err() == nil {
				if _, ok := found[field]; !ok {
					found[field] = value
				}
			}
		default:
			d.Fail()
		}
	}
	return found
}
