package call

import "slices"

// lastKeys are the power key and the key of Linux's system requests, one of which ends the guest.
// They are in the order of libvirt's codesets, with the numbers that libvirt 9.0.0 translates to
// QEMU's (virKeycodeValueTranslate). If QEMU gets the number itself, Print Screen is one of them,
// too: with Alt it is the other's twin.
var lastKeys = [][]uint32{
	{116, 84, 99},      // linux
	{0xe05e, 0x54},     // xt
	{0xe05e, 0x54},     // atset1
	{0xe037, 0x7f},     // atset2
	{0x57},             // atset3
	{},                 // os_x
	{0x15e, 0x54},      // xt_kbd
	{0x66, 0x46},       // usb
	{0x2c},             // win32
	{0xde, 0x54, 0xb7}, // qnum
}

// byKeys: keys that end a guest stop it; others may only restart it, as ctrl-alt-del does. Of a
// codeset that we do not know, any may be one that ends it.
func byKeys(a arguments, c *Call) {
	codeset := a.numbers[0]
	if codeset >= uint64(len(lastKeys)) || slices.ContainsFunc(a.array, func(key uint32) bool { return slices.Contains(lastKeys[codeset], key) }) {
		c.Operations = stopsAndResets
	}
}
