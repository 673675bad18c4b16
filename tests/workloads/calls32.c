/*
 * Sends and receives by every call that a 32-bit program has: from descriptor 1 to
 * descriptor 0. Freestanding, because no 32-bit C library is needed on the machine:
 *
 *     gcc -m32 -O1 -static -nostdlib -ffreestanding -fno-pie -no-pie -fno-stack-protector -o calls32 calls32.c
 *
 * Message number n (from 0) has 200 + n bytes; byte i of it is (n * 31 + i * 7) mod 251. The caller knows
 * that, and how many there are: PAIRS. Ends with 0, or with the number of the message that failed.
 */
typedef unsigned int u32;

#define PAIRS 9

struct iovec { void *base; u32 len; };
struct msghdr { void *name; u32 namelen; struct iovec *iov; u32 iovlen; void *control; u32 controllen; u32 flags; };
struct mmsghdr { struct msghdr header; u32 len; };

/* arch/x86/entry/syscalls/syscall_32.tbl */
enum { EXIT = 1, READ = 3, WRITE = 4, SOCKETCALL = 102, READV = 145, WRITEV = 146, RECVMMSG = 337,
       SENDMMSG = 345, SENDTO = 369, SENDMSG = 370, RECVFROM = 371, RECVMSG = 372 };
/* include/uapi/linux/net.h */
enum { SYS_SEND = 9, SYS_RECV = 10, SYS_SENDTO = 11, SYS_RECVFROM = 12, SYS_SENDMSG = 16, SYS_RECVMSG = 17,
       SYS_RECVMMSG = 19, SYS_SENDMMSG = 20 };

static int call(u32 number, u32 a, u32 b, u32 c, u32 d, u32 e)
{
	int result;
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
	return result;
}

static int socketcall(u32 number, u32 a, u32 b, u32 c, u32 d, u32 e)
{
	volatile u32 arguments[6] = { a, b, c, d, e, 0 };
	return call(SOCKETCALL, number, (u32)arguments, 0, 0, 0);
}

/* The C compiler may ask for it. */
void *memset(void *to, int byte, u32 len)
{
	unsigned char *at = to;
	while (len--)
		*at++ = (unsigned char)byte;
	return to;
}

static int sends(int n, unsigned char *bytes, u32 len)
{
	struct iovec parts[2] = { { bytes, 50 }, { bytes + 50, len - 50 } };
	struct msghdr header = { 0, 0, parts, 2, 0, 0, 0 };
	struct mmsghdr messages[2] = { { { 0, 0, parts, 1, 0, 0, 0 }, 0 }, { { 0, 0, parts + 1, 1, 0, 0, 0 }, 0 } };
	u32 b = (u32)bytes, h = (u32)&header, m = (u32)messages;
	int got;
	switch (n) {
	case 0: return call(WRITE, 1, b, len, 0, 0);
	case 1: return call(WRITEV, 1, (u32)parts, 2, 0, 0);
	case 2: return call(SENDTO, 1, b, len, 0, 0);
	case 3: return call(SENDMSG, 1, h, 0, 0, 0);
	case 4: got = call(SENDMMSG, 1, m, 2, 0, 0); break;
	case 5: return socketcall(SYS_SEND, 1, b, len, 0, 0);
	case 6: return socketcall(SYS_SENDTO, 1, b, len, 0, 0);
	case 7: return socketcall(SYS_SENDMSG, 1, h, 0, 0, 0);
	default: got = socketcall(SYS_SENDMMSG, 1, m, 2, 0, 0); break;
	}
	return got == 2 ? (int)(messages[0].len + messages[1].len) : got;
}

static int receives(int n, unsigned char *bytes, u32 len)
{
	struct iovec parts[2] = { { bytes, 50 }, { bytes + 50, len - 50 } };
	struct msghdr header = { 0, 0, parts, 2, 0, 0, 0 };
	struct mmsghdr messages[2] = { { { 0, 0, parts, 1, 0, 0, 0 }, 0 }, { { 0, 0, parts + 1, 1, 0, 0, 0 }, 0 } };
	u32 b = (u32)bytes, h = (u32)&header, m = (u32)messages;
	int got;
	switch (n) {
	case 0: return call(READ, 0, b, len, 0, 0);
	case 1: return call(READV, 0, (u32)parts, 2, 0, 0);
	case 2: return call(RECVFROM, 0, b, len, 0, 0);
	case 3: return call(RECVMSG, 0, h, 0, 0, 0);
	case 4: got = call(RECVMMSG, 0, m, 2, 0, 0); break;
	case 5: return socketcall(SYS_RECV, 0, b, len, 0, 0);
	case 6: return socketcall(SYS_RECVFROM, 0, b, len, 0, 0);
	case 7: return socketcall(SYS_RECVMSG, 0, h, 0, 0, 0);
	default: got = socketcall(SYS_RECVMMSG, 0, m, 2, 0, 0); break;
	}
	return got == 2 ? (int)(messages[0].len + messages[1].len) : got;
}

static unsigned char byte_of(int n, int i)
{
	return (unsigned char)((n * 31 + i * 7) % 251);
}

static unsigned char out[4096], in[4096];

void _start(void)
{
	int n, i, failed = 0;
	for (n = 0; n < PAIRS && !failed; n++) {
		int len = 200 + n, got = 0;
		for (i = 0; i < len; i++) {
			out[i] = byte_of(n, i);
			in[i] = '#';
		}
		if (sends(n, out, len) != len)
			failed = 100 + n;
		else
			got = receives(n, in, len);
		for (i = 0; i < len && !failed; i++)
			if (got != len || in[i] != byte_of(n, i))
				failed = 1 + n;
	}
	call(EXIT, failed, 0, 0, 0, 0);
}
