package settings

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/protectedlist"
	"github.com/stopguard/stopguard/policy/internal/jsontree"
)

// Tickets is data.site.tickets: the approvals that a ticket needs.
type Tickets struct {
	Approvers  int                 // how many people besides the requester
	Who        []string            // who may request and approve: user:NAME, group:NAME
	domains    *protectedlist.List // nil for all
	operations []string            // nil for all
	Within     time.Duration       // from the request to the last approval
	BreakGlass bool                // whether one person may grant a ticket alone, which is told
}

const (
	maxApprovers  = 10
	defaultWithin = time.Hour
	maxWithin     = 7 * 24 * time.Hour
)

var ticketFields = []string{"approve_within", "approvers", "break_glass", "for", "operations", "who"}

// Applies reports whether a ticket for an operation on a domain needs approvals. A ticket for the
// former name of two operations needs those of either.
func (t *Tickets) Applies(name, uuid, asked string) bool {
	isCovered := func(one string) bool {
		return slices.ContainsFunc(t.operations, func(of string) bool { return operation.Covers(of, one) })
	}
	return (t.domains == nil || len(t.domains.Match(name, uuid)) > 0) &&
		(t.operations == nil || slices.ContainsFunc(operation.Expand(asked), isCovered))
}

func readTickets(value any) (*Tickets, error) {
	const at = "data.site." + ticketsKey
	fields, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is %s, not an object; write {...}", at, jsontree.KindOf(value))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(ticketFields, name) {
			return nil, fmt.Errorf("%s.%s is unknown (these may be set: %s); correct or remove it", at, name, strings.Join(ticketFields, ", "))
		}
	}
	t := &Tickets{Within: defaultWithin}
	var err error
	number, _ := fields["approvers"].(json.Number)
	if t.Approvers, err = strconv.Atoi(number.String()); err != nil || t.Approvers < 1 || t.Approvers > maxApprovers {
		return nil, fmt.Errorf("%s.approvers must be a number from 1 to %d; set it", at, maxApprovers)
	}
	if t.Who, err = stringsOf(ticketsKey+".who", fields["who"]); err != nil {
		return nil, err
	}
	for _, who := range t.Who {
		kind, name, _ := strings.Cut(who, ":")
		if kind != "user" && kind != "group" || name == "" {
			return nil, fmt.Errorf("%s.who has %q; write user:NAME or group:NAME", at, who)
		}
	}
	if len(t.Who) == 0 {
		return nil, fmt.Errorf("%s.who is empty, so that no ticket could be approved; name users and groups", at)
	}
	if value, ok := fields["for"]; ok {
		if t.domains, err = domainsOf(ticketsKey+".for", value); err != nil {
			return nil, err
		}
	}
	if value, ok := fields["operations"]; ok {
		if t.operations, err = stringsOf(ticketsKey+".operations", value); err != nil {
			return nil, err
		}
		for _, name := range t.operations {
			if err := operation.Check(name); err != nil {
				return nil, fmt.Errorf("%s.operations: %w", at, err)
			}
		}
	}
	if value, ok := fields["approve_within"]; ok {
		text, _ := value.(string)
		if t.Within, err = time.ParseDuration(text); err != nil || t.Within <= 0 || t.Within > maxWithin {
			return nil, fmt.Errorf("%s.approve_within must be a time of at most %v, such as \"1h\"; correct it", at, maxWithin)
		}
	}
	if value, ok := fields["break_glass"]; ok {
		if t.BreakGlass, ok = value.(bool); !ok {
			return nil, fmt.Errorf("%s.break_glass is %s; write true or false", at, jsontree.KindOf(value))
		}
	}
	return t, nil
}
