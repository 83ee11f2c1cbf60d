// Package ticketseal seals a ticket's approvals, so that a ticket that was written or changed by
// hand does not count. The key is root's: the seal prevents mistakes and short cuts, but not an
// attack by root.
package ticketseal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/problem"
)

// Key is the path of the key: 32 bytes in hexadecimal digits.
const Key = "/var/lib/stopguard/approvals.key"

const keySize = 32

// ReadKey returns the host's key. The error is fs.ErrNotExist if the key is missing.
func ReadKey(root string) ([]byte, error) {
	text, err := hostfile.Root(root).Read(Key, 2*keySize+1)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keySize {
		return nil, &problem.Error{What: Key + ": is not a key", Cure: "remove it, and restart the agent; tickets that were approved by it no longer count"}
	}
	return key, nil
}

// MakeKey returns the host's key, and creates it if it is missing.
func MakeKey(root string) ([]byte, error) {
	key, err := ReadKey(root)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = make([]byte, keySize)
	rand.Read(key) // never fails
	path := filepath.Join("/", root, Key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := hostfile.Replace(path, fmt.Appendf(nil, "%x\n", key), 0o600); err != nil {
		return nil, err
	}
	return key, nil
}

// Sum returns the seal of a text.
func Sum(key, text []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return hex.EncodeToString(mac.Sum(nil))
}

// Equal compares two seals.
func Equal(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }
