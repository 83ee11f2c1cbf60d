package tooltest

import (
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// OpenTerminal returns a real terminal, and a function that returns its output once it is closed.
func OpenTerminal(t *testing.T) (*os.File, func() string) { return openTerminal(t, 0) }

// OpenTerminalOf returns a terminal with a number of columns, like OpenTerminal.
func OpenTerminalOf(t *testing.T, columns int) (*os.File, func() string) {
	return openTerminal(t, columns)
}

func openTerminal(t *testing.T, columns int) (*os.File, func() string) {
	t.Helper()
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminal is to be had: ", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Skip("no terminal is to be had: ", err)
	}
	f, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminal is to be had: ", err)
	}
	if columns > 0 {
		if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)}); err != nil {
			t.Fatal(err)
		}
	}
	read := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(master) // ends with an error when the terminal is closed
		read <- string(text)
	}()
	return f, func() string {
		_ = f.Close()
		defer func() { _ = master.Close() }()
		return <-read
	}
}
