//go:build race

package stopguard_test

func init() { isRaced = true }
