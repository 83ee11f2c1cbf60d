// Package bundles has the agent's active bundles: on disk, and as the engine that decides by them
// and by the host's own files. A new bundle becomes active once it compiles with the others, has
// passed the tests that it ships, and is safe on disk.
package bundles
