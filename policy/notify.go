package policy

// Notify is the program in data.site.notify, which is told when a domain loses its protection.
type Notify struct {
	Program string // absolute path of the program
	User    string // name of the user that it runs as
}

// Notify returns the program of the site; nil if the site does not name one.
func (e *Engine) Notify() *Notify {
	n := e.settings.Notify
	if n == nil {
		return nil
	}
	return &Notify{Program: n.Program, User: n.User}
}
