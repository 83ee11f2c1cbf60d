package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/policy/internal/document"
	"github.com/stopguard/stopguard/policy/internal/mask"
)

// A Recorded is an input as a record may hold it.
type Recorded struct {
	// Input is the whole input without its masked parts, whatever the loaded rules read. It is nil
	// if the mask fails.
	Input any

	// Erased and Masked are the JSON pointers of the removed values and of the replaced ones, both
	// sorted.
	Erased, Masked []string
}

// Recorded returns the input of a decision as a record may hold it. If the mask fails, it returns
// the error and an empty Recorded: a record must not hold any of the input then.
func (e *Engine) Recorded(ctx context.Context, in Input) (r Recorded, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = Recorded{}, panicked(p)
		}
	}()
	if in.Domain == nil {
		return Recorded{}, errors.New("policy: the input has no domain; parse its XML first")
	}
	if r, err = e.recorded(ctx, in); err != nil {
		return Recorded{}, fmt.Errorf("policy: mask: %w", err)
	}
	slices.Sort(r.Erased)
	slices.Sort(r.Masked)
	return r, nil
}

func (e *Engine) recorded(ctx context.Context, in Input) (Recorded, error) {
	listed := e.list.Match(in.Domain.Name, in.Domain.UUID)
	if e.mask.IsLibrarys() {
		return withoutOwnersText(in, listed)
	}
	value, err := inputValue(in, listed, document.Reads{All: true, Except: [][]string{document.Derived}}.Tree())
	if err != nil {
		return Recorded{}, err
	}
	var r Recorded
	r.Input, r.Erased, r.Masked, err = e.mask.Apply(ctx, value)
	return r, err
}

// withoutOwnersText returns the same as the library's mask. It does not build the values that the
// mask erases, because a domain's owner may have written much of them.
func withoutOwnersText(in Input, listed []string) (Recorded, error) {
	var r Recorded
	if in.Request.Command != "" { // it may hold a password
		in.Request.Command = ""
		r.Erased = append(r.Erased, "/input/request/command")
	}
	in.Host.Domains = slices.Clone(in.Host.Domains)
	for i := range in.Host.Domains {
		in.Host.Domains[i].Metadata = nil
		r.Erased = append(r.Erased, fmt.Sprintf("/input/host/domains/%d/metadata", i))
	}
	value, err := inputValue(in, listed, document.Reads{All: true, Except: append(slices.Clone(mask.OwnersText), document.Derived)}.Tree())
	if err != nil {
		return Recorded{}, err
	}
	input, err := ast.JSON(value)
	if err != nil {
		return Recorded{}, err
	}
	for _, domain := range input.(map[string]any)["host"].(map[string]any)["domains"].([]any) {
		delete(domain.(map[string]any), "metadata")
	}
	if slices.Contains(r.Erased, "/input/request/command") {
		delete(input.(map[string]any)["request"].(map[string]any), "command")
	}
	for _, path := range mask.OwnersText {
		r.Erased = append(r.Erased, "/input/"+strings.Join(path, "/"))
	}
	r.Input = input
	return r, nil
}
