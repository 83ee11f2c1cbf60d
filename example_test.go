package stopguard_test

import (
	"context"
	"fmt"
	"os"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
)

// What libvirt does when it is asked to stop a domain, with the hook in this process.
func ExampleHandler() {
	xml, err := os.Open("cmd/stopguard-hook/testdata/web-01.xml")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer xml.Close()
	guard := stopguard.Handler(stopguard.Config{Root: "cmd/stopguard-hook/testdata/host"})
	args := []string{"/etc/libvirt/hooks/qemu", "web-01", "stop", "begin", "-"}
	fmt.Println("exit", hookproto.Run(context.Background(), args, xml, os.Stdout, guard))
	// Output:
	// exit 0
}
