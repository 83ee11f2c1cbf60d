package policy

// Notify is the program that a site has told when protection goes, as data.site.notify names it.
type Notify struct {
	Program string // absolute path of the program
	User    string // name of the user that it runs as
}

// Notify returns the program that is told; nil if the site names none.
func (e *Engine) Notify() *Notify {
	n := e.settings.Notify
	if n == nil {
		return nil
	}
	return &Notify{Program: n.Program, User: n.User}
}
