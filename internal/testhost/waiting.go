package testhost

import (
	"flag"
	"testing"
)

// RunWaiting runs the tests of a package that mostly wait: as many of the parallel ones run at once
// as -parallel says, and otherwise more than there are CPUs. TestMain calls it in place of m.Run.
func RunWaiting(m *testing.M) (code int) {
	flag.Parse()
	isSet := false
	flag.Visit(func(f *flag.Flag) { isSet = isSet || f.Name == "test.parallel" })
	if !isSet {
		if err := flag.Set("test.parallel", "8"); err != nil {
			panic(err)
		}
	}
	return m.Run()
}
