// Package transport carries libvirt's frames, and the file descriptors that come with them, over
// Unix sockets. A loop that reads can be paused between two reads, to continue in this program or
// in the one that takes its place.
package transport
