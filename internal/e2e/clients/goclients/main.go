// Goclients runs clients of libvirt in Go: terraform's provider, and programs on
// digitalocean/go-libvirt. It is a separate module, so that stopguard depends on neither.
//
//	goclients terraform URI libvirt_domain UUID    # terraform destroy of one resource
//	goclients go-libvirt destroy NAME              # as many programs do, by libvirtd's socket
//	goclients go-libvirt list
//
// It prints the output for the client's user, and exits with 1 after an error.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	provider "github.com/dmacvicar/terraform-provider-libvirt/libvirt"
	"github.com/hashicorp/terraform-plugin-sdk/v2/terraform"
)

func main() {
	log.SetOutput(io.Discard) // the provider's debug log
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("Error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 4 && args[0] == "terraform" {
		return destroy(args[1], args[2], args[3])
	}
	if len(args) < 2 || args[0] != "go-libvirt" {
		return fmt.Errorf("the arguments are %q; see the comment of the program", args)
	}
	return program(args[1], args[2:])
}

// destroy deletes a resource by the provider, as terraform does. It prints whether terraform keeps
// the resource in its state.
func destroy(uri, kind, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := provider.Provider()
	if diags := p.Configure(ctx, terraform.NewResourceConfigRaw(map[string]any{"uri": uri})); diags.HasError() {
		return fmt.Errorf("%s", diags[0].Summary)
	}
	state := &terraform.InstanceState{ID: id, Attributes: map[string]string{"id": id}}
	left, diags := p.ResourcesMap[kind].Apply(ctx, state, &terraform.InstanceDiff{Destroy: true}, p.Meta())
	if !diags.HasError() {
		fmt.Println("Destroy complete!")
		return nil
	}
	if left != nil && left.ID == id {
		fmt.Println("it stays in terraform's state")
	}
	return fmt.Errorf("%s", diags[0].Summary)
}

// program connects to libvirtd's own socket, whichever daemon listens there.
func program(action string, names []string) error {
	l := libvirt.NewWithDialer(dialers.NewLocal())
	if err := l.Connect(); err != nil {
		return err
	}
	defer func() { _ = l.Disconnect() }()
	if action == "list" {
		domains, _, err := l.ConnectListAllDomains(1, 0)
		if err != nil {
			return err
		}
		for _, d := range domains {
			names = append(names, d.Name)
		}
		slices.Sort(names)
		fmt.Println(names)
		return nil
	}
	for _, name := range names {
		domain, err := l.DomainLookupByName(name)
		if err != nil {
			return err
		}
		if err := l.DomainDestroy(domain); err != nil {
			return err
		}
	}
	return nil
}
