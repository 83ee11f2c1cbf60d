package hostfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// TempPrefix begins the name of a file that is not written to its end. One is left if its writer
// was killed.
const TempPrefix = ".stopguard-new-"

// Replace writes a file as a whole, with the given mode whatever the umask is. A reader finds the
// old content or the new one, also after a power failure.
func Replace(path string, content []byte, mode fs.FileMode) error {
	return ReplaceVia(filepath.Dir(path), path, content, mode)
}

// ReplaceVia is [Replace] with the temporary file in another folder of the same file system. It is
// for folders in which a temporary file would be run or read.
func ReplaceVia(folder, path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(folder, TempPrefix+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// SyncFolder writes the names in a folder to disk.
func SyncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
