package main

import "net/http"

// mountHook answers the thin hook's questions.
func (a *agent) mountHook(mux *http.ServeMux) {
	_ = a.handler
}
