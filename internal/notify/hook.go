package notify

import (
	"errors"
	"io/fs"
	"os"

	"github.com/stopguard/stopguard/internal/hostpath"
)

// The states of the hook.
const (
	hookOn   = "on"
	hookOff  = "off"
	hookNone = "none"
)

// seeHook returns the event that the hook was switched off or removed.
func (w *watcher) seeHook(now *state) []Event {
	before := now.Hook
	switch info, err := os.Stat(w.path(hostpath.Hook)); {
	case err == nil && info.Mode()&0o111 != 0:
		now.Hook = hookOn
	case err == nil:
		now.Hook = hookOff
	case errors.Is(err, fs.ErrNotExist):
		now.Hook = hookNone
	}
	switch {
	case before != hookOn || now.Hook == hookOn:
		return nil
	case now.Hook == hookNone:
		return []Event{{What: HookOff, Text: "the hook was removed"}}
	}
	return []Event{{What: HookOff, Text: "the hook was switched off"}}
}
