package call

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strings"
)

// A monitor and a guest agent can do anything. So an unknown command, or one that cannot be read
// with certainty, is a stop; nil stands for a command that changes nothing. A migration by QEMU's
// monitor is a stop, because it leaves the guest paused here and another host need not exist.
var (
	stops  = []Operation{Stop}
	pauses = []Operation{Pause}
	resets = []Operation{Reset}

	stopsAndPauses = []Operation{Stop, Pause}
	stopsAndResets = []Operation{Stop, Reset}

	// qom-list-properties and device-list-properties are left out: QEMU makes an object of the type
	// to inspect it, and aborts for some types.
	monitorCommands = map[string][]Operation{
		"stop":           pauses,
		"system_reset":   resets,
		"cont":           nil,
		"qom-get":        nil,
		"qom-list":       nil,
		"qom-list-types": nil,
	}
	agentCommands = map[string][]Operation{
		"guest-suspend-ram":             pauses,
		"guest-suspend-disk":            stopsAndPauses,
		"guest-suspend-hybrid":          pauses,
		"guest-fsfreeze-freeze":         pauses,
		"guest-fsfreeze-freeze-list":    pauses,
		"guest-fsfreeze-thaw":           nil,
		"guest-fsfreeze-status":         nil,
		"guest-ping":                    nil,
		"guest-sync":                    nil,
		"guest-sync-delimited":          nil,
		"guest-info":                    nil,
		"guest-network-get-interfaces":  nil,
		"guest-ssh-get-authorized-keys": nil,
		"guest-exec-status":             nil,
		"guest-fstrim":                  nil,
		"guest-set-time":                nil,
	}
)

// The names of commands of the monitor and of the agent that only return information.
var (
	monitorQuery = regexp.MustCompile(`\Aquery-[a-z0-9-]+\z`)
	agentQuery   = regexp.MustCompile(`\Aguest-get-[a-z0-9-]+\z`)
)

// qmp returns the operations of a command in JSON for QEMU's monitor.
func qmp(text string) []Operation {
	name, arguments, ok := command(text)
	switch {
	case !ok:
		return stops
	case monitorQuery.MatchString(name):
		return nil
	case name == "human-monitor-command":
		line, ok := commandLine(arguments)
		if !ok {
			return stops
		}
		return hmp(line)
	}
	return lookUp(monitorCommands, name)
}

// agent returns the operations of a command for the guest agent.
func agent(text string) []Operation {
	name, arguments, ok := command(text)
	switch {
	case !ok:
		return stops
	case agentQuery.MatchString(name):
		return nil
	case name == "guest-shutdown" && textOf(arguments, "mode") == "reboot":
		return resets
	}
	return lookUp(agentCommands, name)
}

func lookUp(commands map[string][]Operation, name string) []Operation {
	if o, ok := commands[name]; ok {
		return o
	}
	return stops
}

// harmlessHMP matches commands of QEMU's monitor for people that change nothing. It accepts plain
// characters only. Otherwise the gate could read a command in another way than QEMU.
var harmlessHMP = regexp.MustCompile(`\A *(info|help)( +[A-Za-z0-9_.,:/=-]+)* *\z`)

func hmp(line string) []Operation {
	if harmlessHMP.MatchString(line) {
		return nil
	}
	switch strings.TrimSpace(line) {
	case "stop", "s":
		return pauses
	case "system_reset", "nmi":
		return resets
	case "cont", "c":
		return nil
	}
	return stops
}

// command reads {"execute": NAME, "arguments": {...}, "id": ...}, or exec-oob in place of execute.
// It reports false if there is another key, a key twice, or anything behind the object.
func command(text string) (name string, arguments map[string]json.RawMessage, ok bool) {
	keys, ok := object([]byte(text))
	if !ok {
		return "", nil, false
	}
	names := 0
	for key, value := range keys {
		switch key {
		case "execute", "exec-oob":
			names++
			if name, ok = str(value); !ok {
				return "", nil, false
			}
		case "arguments":
			if arguments, ok = object(value); !ok {
				return "", nil, false
			}
		case "id":
		default:
			return "", nil, false
		}
	}
	return name, arguments, names == 1
}

// commandLine reads the arguments of human-monitor-command.
func commandLine(arguments map[string]json.RawMessage) (string, bool) {
	for key := range arguments {
		if key != "command-line" && key != "cpu-index" {
			return "", false
		}
	}
	return str(arguments["command-line"])
}

func textOf(arguments map[string]json.RawMessage, key string) string {
	s, _ := str(arguments[key])
	return s
}

func str(value json.RawMessage) (string, bool) {
	if len(value) == 0 || value[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err == nil
}

// object reads a JSON object with nothing behind it and no key twice.
func object(data []byte) (map[string]json.RawMessage, bool) {
	d := json.NewDecoder(bytes.NewReader(data))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	keys := map[string]json.RawMessage{}
	for d.More() {
		token, err := d.Token()
		key, isString := token.(string)
		if err != nil || !isString {
			return nil, false
		}
		if _, twice := keys[key]; twice {
			return nil, false
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, false
		}
		keys[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	_, err := d.Token()
	return keys, err == io.EOF
}
