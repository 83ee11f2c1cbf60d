//go:build race

package relay

func init() { isRaced = true }
