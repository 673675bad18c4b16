"""Conversations whose numbers are known: what the kernel says of each socket just before it is closed
(TCP_INFO), or what the program counted itself (UDP)."""

import argparse
import errno
import json
import random
import socket
import struct
import threading
import time

# struct tcp_info (include/uapi/linux/tcp.h): offsets of what is compared.
INFO = {
    "rtt": (68, "I"),
    "rttvar": (72, "I"),
    "total_retrans": (100, "I"),
    "unacked": (24, "I"),
    "bytes_received": (128, "Q"),
    "data_segs_in": (152, "I"),
    "data_segs_out": (156, "I"),
    "segs_out": (136, "I"),
    "segs_in": (140, "I"),
    "bytes_sent": (200, "Q"),
    "bytes_retrans": (208, "Q"),
}


class Log:
    def __init__(self, path):
        self.file = open(path, "w", buffering=1)
        self.lock = threading.Lock()

    def write(self, **line):
        with self.lock:
            self.file.write(json.dumps(line) + "\n")


def info(sock):
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return {name: struct.unpack_from("=" + kind, raw, at)[0] for name, (at, kind) in INFO.items()}


def settled(sock):
    """TCP_INFO once everything that was sent has been acknowledged."""
    for _ in range(30000):
        now = info(sock)
        if now["unacked"] == 0:
            return now
        time.sleep(0.001)
    raise SystemExit("never acknowledged")


def ends(sock):
    return {"local": sock.getsockname()[1], "remote": sock.getpeername()[1]}


def receive(sock, count):
    while count:
        got = len(sock.recv(min(count, 65536)))
        if not got:
            raise SystemExit("ended early")
        count -= got


def exchange(log, server, family, address, rng, largest):
    """One conversation: random turns, then each end's TCP_INFO just before its close."""
    client = socket.socket(family, socket.SOCK_STREAM)
    client.connect((address, server.getsockname()[1]))
    accepted, _ = server.accept()
    pair = [client, accepted]
    for _ in range(rng.randint(0, 6)):
        sender, receiver = rng.sample(pair, 2)
        size = int(rng.choice([1, 100, 1000, largest]) * rng.random()) + 1
        thread = threading.Thread(target=sender.sendall, args=(bytes(size),))
        thread.start()
        receive(receiver, size)
        thread.join()
    rng.shuffle(pair)
    for index, sock in enumerate(pair):
        if index == 1:
            # The other end's FIN: it counts as a byte in TCP_INFO.
            sock.recv(1)
        now = settled(sock)
        log.write(kind="tcp", client=sock is client, fin=index == 1, **ends(sock), **now)
        sock.close()


def conversations(log, args):
    family = socket.AF_INET6 if ":" in args.address else socket.AF_INET
    server = socket.create_server((args.address, args.port), family=family, backlog=128)
    rng = random.Random(args.seed)
    for _ in range(args.count):
        exchange(log, server, family, args.address, rng, args.largest)


def connect(log, args):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if args.syn_retries:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, args.syn_retries)
    sock.bind(("0.0.0.0", 0))
    code = sock.connect_ex((args.address, args.port))
    local = sock.getsockname()[1]
    log.write(kind="connect", error=errno.errorcode.get(code, str(code)), local=local, remote=args.port)


def iovec_messages(sock, payloads, to):
    """sendmmsg, which Python does not have."""
    import ctypes

    class Iovec(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]

    class Header(ctypes.Structure):
        _fields_ = [
            ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("pad", ctypes.c_uint32),
            ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
            ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
            ("flags", ctypes.c_int), ("pad2", ctypes.c_int),
            ("moved", ctypes.c_uint32), ("pad3", ctypes.c_uint32),
        ]

    buffers = [ctypes.create_string_buffer(payload, len(payload)) for payload in payloads]
    vectors = (Iovec * len(payloads))()
    headers = (Header * len(payloads))()
    name = None
    if to:
        raw = struct.pack("=H", socket.AF_INET) + struct.pack("!H", to[1])
        raw += socket.inet_aton(to[0]) + bytes(8)
        name = ctypes.create_string_buffer(raw, 16)
    for index, buffer in enumerate(buffers):
        vectors[index] = Iovec(ctypes.addressof(buffer), len(payloads[index]))
        headers[index].iov = ctypes.addressof(vectors[index])
        headers[index].iovlen = 1
        if name:
            headers[index].name = ctypes.addressof(name)
            headers[index].namelen = 16
    libc = ctypes.CDLL(None, use_errno=True)
    sent = libc.sendmmsg(sock.fileno(), headers, len(payloads), 0)
    if sent != len(payloads):
        raise SystemExit(f"sendmmsg sent {sent}: {ctypes.get_errno()}")


def udp(log, args):
    """One server socket, and clients that send in each way; it answers each."""
    rng = random.Random(args.seed)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((args.address, 0))
    target = server.getsockname()
    ports = iter([args.port])
    for way in ["connected", "unconnected", "sendmmsg", "sendmmsg_connected", "sendmsg"]:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.bind((args.address, next(ports, 0)))
        if way in ("connected", "sendmmsg_connected"):
            client.connect(target)
        counts = dict(sent=0, bytes_sent=0, received=0, bytes_received=0)
        for _ in range(args.count):
            batch = [bytes(rng.randint(0, 1400)) for _ in range(3)]
            if way == "connected":
                [client.send(payload) for payload in batch]
            elif way == "unconnected":
                [client.sendto(payload, target) for payload in batch]
            elif way == "sendmsg":
                [client.sendmsg([payload[:7], payload[7:]], [], 0, target) for payload in batch]
            else:
                iovec_messages(client, batch, target if way == "sendmmsg" else None)
            counts["sent"] += 3
            counts["bytes_sent"] += sum(map(len, batch))
            for _ in batch:
                payload, peer = server.recvfrom(2000)
                server.sendto(payload[: len(payload) // 2], peer)
            for index in range(3):
                if way == "connected":
                    # A look that takes nothing counts nothing.
                    client.recv(2000, socket.MSG_PEEK)
                    got = client.recv(2000)
                elif index == 0:
                    got = client.recvmsg(2000)[0]
                else:
                    got = client.recvfrom(2000)[0]
                counts["received"] += 1
                counts["bytes_received"] += len(got)
        log.write(kind="udp", way=way, local=client.getsockname()[1], remote=target[1], **counts)
        client.close()
    log.write(kind="done")
    time.sleep(args.hold)


def dns_server(names):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def serve():
        while True:
            query, peer = server.recvfrom(1500)
            end = query.index(b"\0", 12) + 5
            asked, kind = query[12:end], struct.unpack_from("!H", query, end - 4)[0]
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            address = names.get(".".join(labels).lower())
            # Through an alias, as large sites answer.
            alias = b"\x05alias\xc0\x0c"
            cname = b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 60, len(alias)) + alias
            owner = struct.pack("!H", 0xC000 | (end + 12))
            answers = b""
            count = 0
            if address and kind == 1:
                record = owner + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
                answers, count = cname + record, 2
            header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, count, 0, 0)
            server.sendto(header + asked + answers, peer)

    threading.Thread(target=serve, daemon=True).start()


def dns(log, args):
    """Asks by name through the C library, and connects to what it says."""
    dns_server({args.name: args.address})
    server = socket.create_server((args.address, 0))
    found = socket.getaddrinfo(args.name, server.getsockname()[1], socket.AF_UNSPEC, socket.SOCK_STREAM)
    client = socket.socket(found[0][0], socket.SOCK_STREAM)
    client.connect(found[0][4])
    accepted, _ = server.accept()
    client.sendall(b"hello")
    receive(accepted, 5)
    log.write(kind="dns", **ends(client), address=found[0][4][0])
    print("ready", flush=True)
    time.sleep(args.hold)
    client.close()
    accepted.close()


def hold(log, args):
    """Conversations that stay open."""
    server = socket.create_server((args.address, 0), backlog=1024)
    kept = []
    for index in range(args.count):
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        client.sendall(bytes(1000 + index))
        receive(accepted, 1000 + index)
        for sock in (client, accepted):
            log.write(kind="held", client=sock is client, **ends(sock), **settled(sock))
        kept.append((client, accepted))
    print("ready", flush=True)
    time.sleep(args.hold)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--largest", type=int, default=300000)
    parser.add_argument("--hold", type=float, default=0)
    parser.add_argument("--syn-retries", type=int, default=0)
    parser.add_argument("--name", default="")
    args = parser.parse_args()
    log = Log(args.log)
    modes = dict(tcp=conversations, connect=connect, udp=udp, dns=dns, hold=hold)
    modes[args.mode](log, args)


main()
