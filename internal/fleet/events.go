package fleet

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// WatchFolder sends to changed when files in a folder come, go or are written, until ctx ends. It
// may miss changes, such as those before the folder exists, so the caller also looks at intervals.
func WatchFolder(ctx context.Context, folder string, changed chan<- struct{}) {
	for ctx.Err() == nil {
		_ = watchFolder(ctx, folder, changed)
		sleep(ctx, retryPace)
	}
}

const folderEvents = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_CLOSE_WRITE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

var errFolderGone = errors.New("the folder is gone")

func watchFolder(ctx context.Context, folder string, changed chan<- struct{}) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, folder, folderEvents); err != nil {
		return err
	}
	signal(changed)
	buffer := make([]byte, 64<<10)
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Second/time.Millisecond))
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return err
		}
		n, err = unix.Read(fd, buffer)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		signal(changed)
		if isGone(buffer[:n]) {
			return errFolderGone
		}
	}
	return ctx.Err()
}

// isGone reports whether one of the events says that the folder itself has gone.
func isGone(events []byte) bool {
	const mask, length, header = 4, 12, unix.SizeofInotifyEvent // offsets in struct inotify_event
	for len(events) >= header {
		if binary.NativeEndian.Uint32(events[mask:])&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0 {
			return true
		}
		events = events[min(len(events), header+int(binary.NativeEndian.Uint32(events[length:]))):]
	}
	return false
}
