// Played is a hook program, and the gate's. The file NAME.does beside it says how it fails.
package main

import (
	"os"
	"time"
)

func main() {
	isHook := len(os.Args) == 5 && os.Args[1] == "stopguard-doctor"
	isGate := len(os.Args) == 2 && os.Args[1] == "-check"
	if !isHook && !isGate {
		os.Exit(64)
	}
	does, _ := os.ReadFile(os.Args[0] + ".does")
	switch string(does) {
	case "speak":
		_, _ = os.Stdout.WriteString("\x1b[2Jhello\n")
	case "fail":
		os.Exit(3)
	case "hang":
		time.Sleep(time.Minute)
	}
}
