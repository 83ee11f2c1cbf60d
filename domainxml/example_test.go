package domainxml_test

import (
	"fmt"
	"log"

	"github.com/stopguard/stopguard/domainxml"
)

func Example() {
	d, err := domainxml.Parse([]byte(`<domain type='kvm' id='7'>
  <name>pg-primary-01</name>
  <uuid>d19e7151-4c02-4aa7-a443-59213be70aba</uuid>
  <metadata>
    <p:protection xmlns:p="urn:stopguard:protection:1" reason="billing primary"/>
  </metadata>
  <memory unit='GiB'>4</memory>
  <devices>
    <disk type='file' device='disk'>
      <source file='/srv/vm/pg.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Name, d.MemoryBytes)
	if d.MetadataErr != nil {
		fmt.Println("cannot read what the owner wrote:", d.MetadataErr)
	}
	for _, e := range d.Metadata {
		fmt.Println(e.Namespace, e.Name, e.Attributes["reason"])
	}
	for _, disk := range d.Disks {
		fmt.Println(disk.Target, disk.Source)
	}
	// Output:
	// pg-primary-01 4294967296
	// urn:stopguard:protection:1 protection billing primary
	// vda /srv/vm/pg.qcow2
}
