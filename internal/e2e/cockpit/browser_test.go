//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// A browser is a session of Chromium, driven over WebDriver by Debian's chromedriver.
type browser struct {
	*host
	session string // the URL of the session
	person  string // who is logged in
}

const (
	driverURL  = "http://127.0.0.1:9515"
	elementKey = "element-6066-11e4-a52e-4f735466cecf" // of WebDriver, for the ID of an element
)

// WebDriver's names for keys.
const (
	enter  = "\ue007"
	escape = "\ue00c"
	tab    = "\ue004"
	space  = " "
)

// startDriver starts chromedriver, which ends with the host.
func (h *host) startDriver() {
	h.background("chromedriver", "/run/chromedriver.log", "--port=9515")
	h.Until("chromedriver answers", func() bool {
		r, err := http.Get(driverURL + "/status")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// newBrowser opens a browser with a profile of its own.
func (h *host) newBrowser(person string, width, height int) *browser {
	b := &browser{host: h, person: person}
	var opened struct{ SessionID string }
	err := post(driverURL+"/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"browserName": "chrome",
		"goog:chromeOptions": map[string]any{
			"binary": "/usr/bin/chromium",
			"args":   []string{"--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--lang=en-US", fmt.Sprintf("--window-size=%d,%d", width, height)},
		},
		"goog:loggingPrefs": map[string]string{"browser": "ALL"},
	}}}, &opened)
	if err != nil {
		h.Fatalf("Chromium does not start: %v", err)
	}
	b.session = driverURL + "/session/" + opened.SessionID
	return b
}

func post(url string, body, into any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.Post(url, "application/json", bytes.NewReader(content))
	if err != nil {
		return err
	}
	return decode(r, into)
}

func decode(r *http.Response, into any) error {
	defer r.Body.Close()
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%.500s", content)
	}
	answer := struct{ Value any }{into}
	return json.Unmarshal(content, &answer)
}

// must calls a command of WebDriver.
func (b *browser) must(command string, body, into any) {
	if body == nil {
		body = struct{}{}
	}
	if err := post(b.session+command, body, into); err != nil {
		b.fail("%s: %v", command, err)
	}
}

// fail ends the host after a look at the page.
func (b *browser) fail(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	_ = os.WriteFile(b.shotFile("failed"), b.picture(), 0o644)
	var text string
	_ = post(b.session+"/execute/sync", map[string]any{"script": "return document.body.innerText", "args": []any{}}, &text)
	var log []struct{ Message string }
	_ = post(b.session+"/se/log", map[string]any{"type": "browser"}, &log)
	b.Fatalf("%s's page: %s\n-- it shows:\n%s\n-- its console:\n%v\n-- Cockpit's log:\n%s", b.person, what, text, log, e2ehost.LastLines("/run/cockpit-ws.log", 3000))
}

func (b *browser) open(url string) { b.must("/url", map[string]string{"url": url}, nil) }

// eval runs JavaScript in the page, with arguments[0] and so on.
func (b *browser) eval(into any, script string, args ...any) {
	b.must("/execute/sync", map[string]any{"script": script, "args": append([]any{}, args...)}, into)
}

// until waits until an expression of JavaScript is true.
func (b *browser) until(what, expression string, args ...any) {
	done := false
	if !b.Within(2*time.Minute, func() bool {
		done = false
		// A page that is being replaced answers with an error.
		_ = post(b.session+"/execute/sync", map[string]any{"script": "return Boolean(" + expression + ")", "args": append([]any{}, args...)}, &done)
		return done
	}) {
		b.fail("it is in vain waited for that %s", what)
	}
}

// shows waits until the page, or the part of it that a selector names, shows a text.
func (b *browser) shows(selector, text string) {
	b.until(selector+" shows "+text, "[...document.querySelectorAll(arguments[0])].some(e => e.innerText.includes(arguments[1]))", selector, text)
}

// text returns what a part of the page shows.
func (b *browser) text(selector string) (text string) {
	b.eval(&text, "const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", selector)
	return text
}

// element waits for the one element that a selector names.
func (b *browser) element(selector string) string {
	b.until("there is "+selector, "document.querySelectorAll(arguments[0]).length === 1", selector)
	var found map[string]string
	b.must("/element", map[string]string{"using": "css selector", "value": selector}, &found)
	return "/element/" + found[elementKey]
}

// click clicks on an element, which has to be in sight.
func (b *browser) click(selector string) { b.must(b.element(selector)+"/click", nil, nil) }

// write replaces what is in a field.
func (b *browser) write(selector, text string) {
	field := b.element(selector)
	b.must(field+"/clear", nil, nil)
	b.must(field+"/value", map[string]string{"text": text}, nil)
}

// press sends keys to whatever has the focus.
func (b *browser) press(keys ...string) {
	var actions []map[string]string
	for _, key := range strings.Split(strings.Join(keys, ""), "") {
		actions = append(actions, map[string]string{"type": "keyDown", "value": key}, map[string]string{"type": "keyUp", "value": key})
	}
	b.must("/actions", map[string]any{"actions": []any{map[string]any{"type": "key", "id": "keyboard", "actions": actions}}}, nil)
}

// focused returns the accessible name of what has the focus.
func (b *browser) focused() (name string) {
	r, err := http.Get(b.session + "/element/active")
	if err != nil {
		b.fail("%v", err)
	}
	var found map[string]string
	if err := decode(r, &found); err != nil {
		b.fail("%v", err)
	}
	return b.get("/element/" + found[elementKey] + "/computedlabel")
}

func (b *browser) get(command string) (value string) {
	r, err := http.Get(b.session + command)
	if err == nil {
		err = decode(r, &value)
	}
	if err != nil {
		b.fail("%s: %v", command, err)
	}
	return value
}

// unnamed returns the controls in a part of the page whose accessible name is empty.
func (b *browser) unnamed(selector string) (all []string) {
	var found []map[string]string
	b.eval(&found, "return [...document.querySelector(arguments[0]).querySelectorAll('button, input, select, a, summary, table')].filter(e => e.checkVisibility())", selector)
	if len(found) == 0 {
		b.fail("%s has no controls", selector)
	}
	for _, e := range found {
		if id := "/element/" + e[elementKey]; b.get(id+"/computedlabel") == "" {
			all = append(all, b.get(id+"/property/outerHTML"))
		}
	}
	return all
}

// picture returns a PNG of the window.
func (b *browser) picture() []byte {
	r, err := http.Get(b.session + "/screenshot")
	if err != nil {
		return nil
	}
	var encoded string
	if decode(r, &encoded) != nil {
		return nil
	}
	picture, _ := base64.StdEncoding.DecodeString(encoded)
	return picture
}

func (b *browser) shotFile(name string) string {
	return filepath.Join(os.Getenv(shotsVariable), name+".png")
}

// shot keeps a picture of the window, for people.
func (b *browser) shot(name string) {
	if err := os.WriteFile(b.shotFile(name), b.picture(), 0o644); err != nil {
		b.Fatalf("%v", err)
	}
}

// resize changes the window's size.
func (b *browser) resize(width, height int) {
	b.must("/window/rect", map[string]int{"width": width, "height": height}, nil)
}

// background starts a program that ends with the host.
func (h *host) background(program, log string, args ...string) *exec.Cmd {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		h.Fatalf("%v", err)
	}
	defer file.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		h.Fatalf("%s: %v", program, err)
	}
	go func() { _ = cmd.Wait() }()
	return cmd
}
