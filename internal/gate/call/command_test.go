package call

import "testing"

func TestACommandThatChangesNothingPasses(t *testing.T) {
	const jsonText, people, guest = "qmp", "hmp", "agent"
	read := map[string]func(string) []Operation{jsonText: qmp, people: hmp, guest: agent}
	for _, tt := range []struct{ why, kind, text, want string }{
		{"a query", jsonText, `{"execute":"query-status"}`, ""},
		{"a query with arguments and id", jsonText, ` {"arguments": {"x": [1]}, "id": "a", "execute": "query-block"} `, ""},
		{"a query out of band", jsonText, `{"exec-oob":"query-status"}`, ""},
		{"a query, written otherwise", jsonText, `{"execute":"\u0071uery-status"}`, ""},
		{"the end", jsonText, `{"execute":"quit"}`, "stop"},
		{"the end, written otherwise", jsonText, `{"\u0065xecute":"\u0071uit"}`, "stop"},
		{"the end out of band", jsonText, `{"exec-oob":"quit"}`, "stop"},
		{"a pause", jsonText, `{"execute":"stop"}`, "pause"},
		{"a reset", jsonText, `{"execute":"system_reset"}`, "reset"},
		{"what is there", jsonText, `{"execute":"qom-get","arguments":{"path":"/machine","property":"type"}}`, ""},
		{"an object is made to be looked at: QEMU 7.2 aborts without the module for it", jsonText, `{"execute":"device-list-properties","arguments":{"typename":"virtio-vga-gl"}}`, "stop"},
		{"likewise", jsonText, `{"execute":"qom-list-properties","arguments":{"typename":"virtio-vga-gl"}}`, "stop"},
		{"a migration", jsonText, `{"execute":"migrate","arguments":{"uri":"exec:cat"}}`, "stop"},
		{"what makes a reset a stop", jsonText, `{"execute":"set-action","arguments":{"reboot":"shutdown"}}`, "stop"},
		{"two commands", jsonText, `{"execute":"query-status","execute":"quit"}`, "stop"},
		{"two commands, one out of band", jsonText, `{"execute":"query-status","exec-oob":"quit"}`, "stop"},
		{"two commands in a row", jsonText, `{"execute":"query-status"}{"execute":"quit"}`, "stop"},
		{"something behind it", jsonText, `{"execute":"query-status"} x`, "stop"},
		{"it does not end", jsonText, `{"execute":"query-status"`, "stop"},
		{"another case", jsonText, `{"Execute":"query-status"}`, "stop"},
		{"another key", jsonText, `{"execute":"query-status","control":{}}`, "stop"},
		{"no command", jsonText, `{"id":1}`, "stop"},
		{"no string", jsonText, `{"execute":["query-status"]}`, "stop"},
		{"no object", jsonText, `"query-status"`, "stop"},
		{"null", jsonText, `null`, "stop"},
		{"nothing", jsonText, ``, "stop"},
		{"a name that only begins so", jsonText, `{"execute":"query-status quit"}`, "stop"},
		{"people's end in JSON", jsonText, `{"execute":"human-monitor-command","arguments":{"command-line":"quit"}}`, "stop"},
		{"people's question in JSON", jsonText, `{"execute":"human-monitor-command","arguments":{"command-line":"info status","cpu-index":0}}`, ""},
		{"two of them", jsonText, `{"execute":"human-monitor-command","arguments":{"command-line":"info status","command-line":"quit"}}`, "stop"},
		{"with something else", jsonText, `{"execute":"human-monitor-command","arguments":{"command-line":"info status","x":0}}`, "stop"},
		{"without", jsonText, `{"execute":"human-monitor-command"}`, "stop"},
		{"JSON for people", people, `{"execute":"query-status"}`, "stop"},

		{"a question", people, "info status", ""},
		{"a question with an option", people, " info  registers -a ", ""},
		{"help", people, "help", ""},
		{"the end", people, "quit", "stop"},
		{"the end, in short", people, "q", "stop"},
		{"a pause", people, "stop", "pause"},
		{"a reset", people, "system_reset", "reset"},
		{"on its way down", people, "system_powerdown", "stop"},
		{"a question and more", people, "info status; quit", "stop"},
		{"two lines", people, "info status\nquit", "stop"},
		{"a format behind a name", people, "quit/info status", "stop"},
		{"a name that begins so", people, "information", "stop"},
		{"a tab", people, "\tquit", "stop"},
		{"nothing", people, "", "stop"},

		{"are you there", guest, `{"execute":"guest-ping"}`, ""},
		{"what time is it", guest, `{"execute":"guest-get-time"}`, ""},
		{"off", guest, `{"execute":"guest-shutdown"}`, "stop"},
		{"off, said otherwise", guest, `{"execute":"guest-shutdown","arguments":{"mode":"halt"}}`, "stop"},
		{"a restart", guest, `{"execute":"guest-shutdown","arguments":{"mode":"reboot"}}`, "reset"},
		{"twice", guest, `{"execute":"guest-shutdown","arguments":{"mode":"reboot","mode":"halt"}}`, "stop"},
		{"sleep", guest, `{"execute":"guest-suspend-ram"}`, "pause"},
		{"sleep on disk, where it is off", guest, `{"execute":"guest-suspend-disk"}`, "stop pause"},
		{"a program", guest, `{"execute":"guest-exec","arguments":{"path":"poweroff"}}`, "stop"},
		{"a file", guest, `{"execute":"guest-file-write"}`, "stop"},
		{"a password", guest, `{"execute":"guest-set-user-password"}`, "stop"},
		{"out of band", guest, `{"exec-oob":"guest-ping"}`, ""},
		{"a monitor's question", guest, `{"execute":"query-status"}`, "stop"},
	} {
		t.Run(tt.kind+" "+tt.why, func(t *testing.T) {
			if got := words(read[tt.kind](tt.text)); got != tt.want {
				t.Errorf("%s asks about %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}

func TestWhatTheGuestAgentDoesIsTheSameByItsOwnProcedure(t *testing.T) {
	for _, tt := range []struct {
		why, command string
		number       uint32 // of the procedure by which libvirt has the agent do it; one that only passes is not in the table
		flags        uint64
	}{
		{"whoever knows the password can log in and shut down", `{"execute":"guest-set-user-password"}`, 357, 0},
		{"so can whoever has a key", `{"execute":"guest-ssh-add-authorized-keys"}`, 425, 1},
		{"", `{"execute":"guest-ssh-remove-authorized-keys"}`, 425, 2},
		{"a guest without its CPUs does not get far", `{"execute":"guest-set-vcpus"}`, 372, 0},
		{"virsh setvcpus --guest", `{"execute":"guest-set-vcpus"}`, 199, vcpuGuest},
		{"", `{"execute":"guest-fsfreeze-freeze-list"}`, 335, 0},
		{"", `{"execute":"guest-fsfreeze-thaw"}`, 336, 0},
		{"free blocks are given back", `{"execute":"guest-fstrim"}`, 294, 0},
		{"clocks are set after a pause", `{"execute":"guest-set-time"}`, 338, 0},
		{"", `{"execute":"guest-get-time"}`, 337, 0},
		{"", `{"execute":"guest-get-fsinfo"}`, 349, 0},
		{"", `{"execute":"guest-get-vcpus"}`, 371, 0},
		{"", `{"execute":"guest-ssh-get-authorized-keys"}`, 424, 0},
		{"", `{"execute":"guest-suspend-ram"}`, 261, 0},
	} {
		t.Run(tt.command, func(t *testing.T) {
			var own []Operation
			if r := table[Remote][tt.number]; r != nil {
				arguments := filled(r.args, tt.flags)
				if tt.number == 261 {
					arguments = args{}.domain().u(0).hyper(0).u(0)
				}
				c, err := Read(Remote, tt.number, arguments)
				if err != nil {
					t.Fatal(err)
				}
				own = c.Operations
			}
			if words(agent(tt.command)) != words(own) {
				t.Errorf("the command is %q, procedure %d is %q", words(agent(tt.command)), tt.number, words(own))
			}
		})
	}
}
