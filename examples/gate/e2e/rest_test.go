//go:build e2e

package e2e

func (h *host) users()     {}
func (h *host) migration() {}
