package hostfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// TempPrefix is the prefix of the names of files that are being written. If the writer is killed,
// the file stays.
const TempPrefix = ".stopguard-new-"

// Replace writes a file atomically, with the given mode whatever the umask is. A reader finds the
// old content or the new one, even after a power failure.
func Replace(path string, content []byte, mode fs.FileMode) error {
	return ReplaceVia(filepath.Dir(path), path, content, mode)
}

// ReplaceVolatile is [Replace] for a folder that a power failure empties, such as /run. It does not
// sync the file to disk, which may take milliseconds.
func ReplaceVolatile(path string, content []byte, mode fs.FileMode) error {
	return replace(filepath.Dir(path), path, content, mode, func(*os.File) error { return nil })
}

// ReplaceVia is [Replace] with the temporary file in another folder of the same file system. It is
// for folders in which a program would run or read a temporary file.
func ReplaceVia(folder, path string, content []byte, mode fs.FileMode) error {
	if err := replace(folder, path, content, mode, (*os.File).Sync); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

func replace(folder, path string, content []byte, mode fs.FileMode, sync func(*os.File) error) error {
	f, err := os.CreateTemp(folder, TempPrefix+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), sync(f), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// SyncFolder writes the names in a folder to disk.
func SyncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
