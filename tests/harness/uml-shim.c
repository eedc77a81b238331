/*
 * Preloaded into linux.uml, the User-Mode Linux of Debian 12, so that it boots on processors with large registers.
 *
 * That kernel keeps a process's floating point registers in a buffer of 2,696 bytes and hands it back to the machine's
 * kernel with PTRACE_SETREGSET. On a processor whose XSAVE area is larger (Intel AMX alone needs 8 KiB more) the
 * machine's kernel wants the area whole and answers EFAULT, and the guest ends before it has begun.
 *
 * Here the short buffer is copied to the front of an area of full size. The parts that did not fit are marked as not in
 * use, by their bits in the XSAVE header, which means "as after a reset": the state that they have in a guest whose
 * buffer never held them. Everything else goes to the kernel as it came.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

/* Larger than any XSAVE area there is: 11,008 bytes with AMX. */
enum { AREA_BYTES = 1 << 16 };
/* The XSAVE header stands behind the 512 bytes of the legacy area and begins with the bits of the parts in use. */
enum { HEADER_OFFSET = 512, HEADER_BYTES = 64 };
/* x87 and SSE live in the legacy area, whose layout the processor does not describe. */
static const uint64_t LEGACY_PARTS = 3;

static unsigned char area[AREA_BYTES] __attribute__((aligned(64)));
static size_t area_needed;

static long ask_kernel(long request, long pid, void *address, void *data)
{
	return syscall(SYS_ptrace, request, pid, address, data);
}

/* Bits of the parts that lie within the first `length` bytes of the standard layout. */
static uint64_t parts_within(size_t length)
{
	uint64_t parts = LEGACY_PARTS;
	for (unsigned part = 2; part < 63; part++) {
		unsigned size, offset, flags, unused;
		__cpuid_count(0xd, part, size, offset, flags, unused);
		/* Bit 0 of the flags: a part of the supervisor, which is not in this layout. */
		if (size != 0 && (flags & 1) == 0 && (size_t)offset + size <= length)
			parts |= (uint64_t)1 << part;
	}
	return parts;
}

/* The size that the machine's kernel wants is the size that it gives. */
static int learn_size(long pid)
{
	struct iovec whole = { area, sizeof area };
	if (ask_kernel(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &whole) < 0)
		return -1;
	area_needed = whole.iov_len;
	return 0;
}

static long set_extended(long pid, struct iovec *given)
{
	uint64_t in_use;
	if (area_needed == 0 && learn_size(pid) < 0)
		return -1;
	if (given->iov_len >= area_needed || given->iov_len < HEADER_OFFSET + HEADER_BYTES)
		return ask_kernel(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, given);
	memcpy(area, given->iov_base, given->iov_len);
	memset(area + given->iov_len, 0, area_needed - given->iov_len);
	memcpy(&in_use, area + HEADER_OFFSET, sizeof in_use);
	in_use &= parts_within(given->iov_len);
	memcpy(area + HEADER_OFFSET, &in_use, sizeof in_use);
	struct iovec whole = { area, area_needed };
	return ask_kernel(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &whole);
}

/* Takes the place of the C library's; linux.uml calls it from one thread. */
long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	long pid = va_arg(arguments, int);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
		return set_extended(pid, data);
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
		/* The library returns the word that is read; the kernel stores it. */
		long word;
		if (ask_kernel(request, pid, address, &word) < 0)
			return -1;
		errno = 0;
		return word;
	}
	return ask_kernel(request, pid, address, data);
}
