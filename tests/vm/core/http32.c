/*
 * A 32-bit HTTP client: each of the ways of calls32.c to send and to receive is a request, GET /compat/0,
 * /compat/1, … on the connection that is descriptor 0 and 1. Ends with 0, or with the number of the request
 * that failed, from 1. The server's answers end with "hello\n".
 */
#define _start other_start
#include "../../workloads/calls32.c"
#undef _start

static const char REQUEST[] = "GET /compat/0 HTTP/1.1\r\nHost: 127.0.0.1:18080\r\nUser-Agent: http32\r\n\r\n";
#define NUMBER 12

static int ends(const unsigned char *text, int len)
{
	static const char end[] = "hello\n";
	int i;
	if (len < 6)
		return 0;
	for (i = 0; i < 6; i++)
		if (text[len - 6 + i] != (unsigned char)end[i])
			return 0;
	return 1;
}

static int exchange(int way)
{
	int i, got, len = sizeof(REQUEST) - 1;
	for (i = 0; i < len; i++)
		out[i] = (unsigned char)REQUEST[i];
	out[NUMBER] = (unsigned char)('0' + way);
	if (sends(way, out, len) != len)
		return 0;
	got = receives(way, in, sizeof(in));
	while (got > 0 && !ends(in, got)) {
		int more = call(READ, 0, (u32)in + got, sizeof(in) - got, 0, 0);
		if (more <= 0)
			return 0;
		got += more;
	}
	return got > 0;
}

void _start(void)
{
	int way, failed = 0;
	for (way = 0; way < PAIRS && !failed; way++)
		if (!exchange(way))
			failed = 1 + way;
	call(EXIT, failed, 0, 0, 0, 0);
}
