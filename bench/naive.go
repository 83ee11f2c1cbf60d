package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"libvirt.org/go/libvirtxml"

	library "github.com/stopguard/stopguard/rego"
)

// A naive program evaluates the same rules in the way that a first version would: libvirtxml parses
// the domain, the whole domain goes into the input, because the fields that a rule reads are not
// known, and a prepared query is evaluated over the default store.
type naive struct{ query rego.PreparedEvalQuery }

func newNaive(ctx context.Context) (*naive, error) {
	var data map[string]any
	if err := json.Unmarshal([]byte(warmSettings), &data); err != nil {
		return nil, err
	}
	options := []func(*rego.Rego){rego.Query("data.stopguard.decision"), rego.Store(inmem.NewFromObject(data)), rego.StrictBuiltinErrors(true)}
	err := fs.WalkDir(library.FS, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".rego") || strings.HasSuffix(name, "_test.rego") {
			return err
		}
		content, err := fs.ReadFile(library.FS, name)
		options = append(options, rego.Module(name, string(content)))
		return err
	})
	if err != nil {
		return nil, err
	}
	query, err := rego.New(options...).PrepareForEval(ctx)
	return &naive{query}, err
}

// ask returns the number of reasons.
func (n *naive) ask(ctx context.Context, doc []byte) (int, error) {
	var d libvirtxml.Domain
	if err := d.Unmarshal(string(doc)); err != nil {
		return 0, err
	}
	input, err := naiveInput(&d)
	if err != nil {
		return 0, err
	}
	results, err := n.query.Eval(ctx, rego.EvalInput(input))
	if err != nil {
		return 0, err
	}
	if len(results) != 1 {
		return 0, fmt.Errorf("%d results", len(results))
	}
	vetoes := results[0].Expressions[0].Value.(map[string]any)["vetoes"].(map[string]any)
	reasons := 0
	for _, set := range vetoes {
		reasons += len(set.([]any))
	}
	return reasons, nil
}

// An element is any element.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []element  `xml:",any"`
}

func (e element) value() map[string]any {
	attributes := map[string]any{}
	for _, a := range e.Attrs {
		if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
			attributes[a.Name.Local] = a.Value
		}
	}
	children := []any{}
	for _, c := range e.Children {
		children = append(children, c.value())
	}
	return map[string]any{"name": e.XMLName.Local, "namespace": e.XMLName.Space, "attributes": attributes, "text": strings.TrimSpace(e.Text), "children": children}
}

func naiveInput(d *libvirtxml.Domain) (map[string]any, error) {
	var metadata element
	if d.Metadata != nil {
		if err := xml.Unmarshal([]byte("<metadata>"+d.Metadata.XML+"</metadata>"), &metadata); err != nil {
			return nil, err
		}
	}
	marks := []any{}
	for _, c := range metadata.Children {
		if mark := c.value(); mark["namespace"] == "urn:stopguard:protection:1" {
			attributes := mark["attributes"].(map[string]any)
			marks = append(marks, map[string]any{
				"reason": attributes["reason"], "owner": attributes["owner"], "until": attributes["until"], "shown": "",
				"operations": []any{"stop"}, "in_force": true, "note": "", "unreadable": map[string]any{},
			})
		}
	}
	disks := []any{}
	for _, disk := range d.Devices.Disks {
		disks = append(disks, map[string]any{"target": disk.Target.Dev, "bus": disk.Target.Bus, "serial": disk.Serial, "job": ""})
	}
	return map[string]any{
		"version": 1, "operation": "stop", "time": noon.Format(time.RFC3339),
		"host": map[string]any{"name": "", "domains": []any{}},
		"domain": map[string]any{
			"name": d.Name, "uuid": d.UUID, "id": *d.ID, "type": d.Type, "title": d.Title, "description": d.Description,
			"state": "", "reason": "", "job": "", "listed": []any{}, "disks": disks,
			"metadata": metadata.value()["children"], "metadata_error": "", "marks": marks,
		},
		"xml": d,
	}, nil
}
