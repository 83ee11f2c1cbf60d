package agent

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/plugins"

	"github.com/stopguard/stopguard/internal/persisted"
)

// health is the body of an answer about the agent's state. The error is as in OPA's answer.
type health struct {
	Error   string             `json:"error,omitempty"`
	Note    string             `json:"note,omitempty"`
	Bundles []persisted.Bundle `json:"bundles"`
}

// noBundle is the note of an agent without bundles.
const noBundle = "there is no bundle; the built-in rules and the host's own files decide"

// briefHealth answers GET /health for a client without a certificate or the token, such as a load
// balancer's probe, with the status only. Other clients also read the names of bundles, revisions
// and errors.
func (a *agent) briefHealth(w http.ResponseWriter, r *http.Request) {
	status, _ := a.state(r.URL.Query())
	write(w, status, struct{}{})
}

// health answers GET /health: whether decisions can be made. With ?bundles it also checks whether
// every configured bundle is active, and with ?plugins whether all of OPA's plugins are well.
func (a *agent) health(w http.ResponseWriter, r *http.Request) {
	status, h := a.state(r.URL.Query())
	write(w, status, h)
}

// state returns the answer to a request for the agent's health.
func (a *agent) state(query url.Values) (int, health) {
	h := health{Bundles: []persisted.Bundle{}}
	g := a.bundles.Current()
	if len(g.Bundles) > 0 {
		h.Bundles = g.Bundles
	} else {
		h.Note = noBundle
	}
	var wrong []string
	if g.Err != nil {
		wrong = append(wrong, g.Err.Error())
	}
	if a.elsewhere.Load() {
		wrong = append(wrong, daemonElsewhere)
	}
	if query.Has("bundles") {
		for _, name := range a.plane.Load().configured() {
			if !slices.ContainsFunc(g.Bundles, func(b persisted.Bundle) bool { return b.Name == name }) {
				wrong = append(wrong, fmt.Sprintf("bundle %s is not active", name))
			}
			if failure := a.plane.Load().failure(name); failure != "" {
				wrong = append(wrong, fmt.Sprintf("bundle %s was refused when it was sent last: %s", name, failure))
			}
		}
	}
	if query.Has("plugins") {
		for name, status := range a.plane.Load().manager.PluginStatus() {
			if status != nil && status.State != plugins.StateOK {
				wrong = append(wrong, fmt.Sprintf("plugin %s is %s", name, status.State))
			}
		}
	}
	status := http.StatusOK
	if len(wrong) > 0 {
		slices.Sort(wrong)
		status, h.Error = http.StatusInternalServerError, strings.Join(wrong, "; ")
	}
	return status, h
}
