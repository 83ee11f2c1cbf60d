package call

import "github.com/stopguard/stopguard/internal/gate/wire"

const webUUID = "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c11"

// clientsName is the name that the client gives with webUUID.
const clientsName = "a name that means nothing"

// args are the arguments of a call, written one after the other.
type args []byte

func (a args) domain() args {
	b, err := wire.AppendDomain(a, clientsName, webUUID)
	if err != nil {
		panic(err)
	}
	return b
}

func (a args) string(s string) args   { return wire.AppendString(a, s) }
func (a args) u(n uint32) args        { return wire.AppendUint32(a, n) }
func (a args) hyper(n uint64) args    { return a.u(uint32(n >> 32)).u(uint32(n)) }
func (a args) optional(s string) args { return a.u(1).string(s) }
func (a args) none() args             { return a.u(0) }
func (a args) param(f, s string) args { return a.string(f).u(7).string(s) }
func (a args) command(s string) args  { return a.domain().string(s) }
func (a args) metadata(n uint32) args { return a.domain().u(n).optional("<x/>").optional("p") }

const definition = "<domain type='qemu'><name>web</name><uuid>" + webUUID + "</uuid></domain>"

// filled makes arguments of a layout, with these flags.
func filled(layout string, flags uint64) args {
	var a args
	for _, kind := range layout {
		switch kind {
		case 'N':
			a = a.string("a snapshot").domain()
		case 'D':
			a = a.domain()
		case 'V':
			a = a.string("images").string("web.qcow2").string("a key that means nothing")
		case 'P':
			a = append(a.string("images"), a.domain()[len(a.string(clientsName)):][:16]...)
		case 'x':
			a = a.string(definition)
		case 'o':
			a = a.optional(definition)
		case 's':
			a = a.string("text")
		case 'S':
			a = a.optional("text")
		case 'a':
			a = a.u(2).string("/").string("/home")
		case 'A':
			a = a.u(2).u(29).u(56)
		case 'c':
			a = a.string("a cookie")
		case 'p':
			a = a.u(3).param("destination_name", "web").string("bandwidth").u(4).hyper(1).string("persist").u(6).u(1)
		case 'u':
			a = a.u(2)
		case 'U':
			a = a.hyper(60)
		case 'f':
			a = a.u(uint32(flags))
		case 'F':
			a = a.hyper(flags)
		}
	}
	return a
}
