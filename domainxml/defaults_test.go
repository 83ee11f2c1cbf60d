package domainxml

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testdata/defaults/libvirt.xml is what libvirt 9.0.0 made of written.xml beside it:
//
//	virsh -c test:///default 'define written.xml; dumpxml written-by-hand'
func TestAFileWrittenByHandIsReadAsLibvirtReadsIt(t *testing.T) {
	devices := func(file string) (*Domain, error) {
		content, err := os.ReadFile("testdata/defaults/" + file)
		if err != nil {
			return nil, err
		}
		return Parse(content)
	}
	written, err := devices("written.xml")
	if err != nil {
		t.Fatal(err)
	}
	libvirts, err := devices("libvirt.xml")
	if err != nil {
		t.Fatal(err)
	}
	for i := range libvirts.Interfaces {
		libvirts.Interfaces[i].Target = "" // the driver has made a device for it
	}
	// libvirt sorts a floppy before the disks of another bus.
	sorted := func(disks []Disk) map[string]Disk {
		byTarget := map[string]Disk{}
		for _, d := range disks {
			byTarget[d.Target] = d
		}
		return byTarget
	}
	if diff := cmp.Diff(sorted(libvirts.Disks), sorted(written.Disks)); diff != "" || len(written.Disks) != 10 {
		t.Errorf("disks (-libvirt +ours):\n%s", diff)
	}
	if diff := cmp.Diff(libvirts.Interfaces, written.Interfaces); diff != "" || len(written.Interfaces) != 4 {
		t.Errorf("interfaces (-libvirt +ours):\n%s", diff)
	}
	if diff := cmp.Diff(libvirts.Hostdevs, written.Hostdevs); diff != "" || len(written.Hostdevs) != 7 {
		t.Errorf("host devices (-libvirt +ours):\n%s", diff)
	}
}

func TestAMirrorWithoutAJobIsACopy(t *testing.T) {
	d, err := Parse([]byte(`<domain><name>a</name><uuid>a7a5c0f2-1111-4222-8333-444455556666</uuid><devices>
<disk><mirror/><target dev='vda'/></disk><disk><mirror job='active-commit'/><target dev='vdb'/></disk><disk><target dev='vdc'/></disk></devices></domain>`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, disk := range d.Disks {
		got = append(got, disk.MirrorJob)
	}
	if diff := cmp.Diff([]string{"copy", "active-commit", ""}, got); diff != "" {
		t.Error(diff)
	}
}
