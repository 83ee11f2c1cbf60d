// Package bundles has the agent's active bundles: on disk, and as the engine that decides by them
// and by the host's own files. A new bundle becomes active once it compiles with the others, has
// passed its own tests, and is safe on disk.
package bundles
