package main

import (
	"os"
	"testing"

	"github.com/stopguard/stopguard/hookproto/hooktest"
	"github.com/stopguard/stopguard/internal/testhost"
)

var hook = testhost.Program{Source: "."}

func TestMain(m *testing.M) {
	code := m.Run()
	hook.Remove()
	os.Exit(code)
}

func TestTheHookKeepsTheContract(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	hooktest.Binary(t, hook.File(t), hooktest.Config{Env: []string{"STOPGUARD_ROOT=" + t.TempDir()}})
}
