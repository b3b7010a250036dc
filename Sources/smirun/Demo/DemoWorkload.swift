/// The program that the demo runs in the image: it keeps checksummed memory, rewrites part of it, appends to a log file
/// and serves TCP, and it notices when anything of that is not as it left it.
enum DemoWorkload {
    /// Memory that it keeps, bytes.
    static let memory = 64 << 20
    /// Port of the counting stream.
    static let streamPort: UInt16 = 7001
    /// Port that answers each connection with one line of JSON about the program.
    static let statusPort: UInt16 = 7002
    static let logFile = "/var/tmp/demo.log"

    /// Its command line.
    static let program = ["python3", "-u", "-c", source]

    private static let source = """
        import json, os, socket, threading, time, zlib

        PAGE, PAGES = 4096, \(memory) // 4096
        memory = bytearray(PAGE * PAGES)
        checksums = [0] * PAGES
        lock = threading.Lock()
        state = dict(rewrites=0, bad_pages=0, monotonic_jumps=0, longest_pause_ms=0.0, log_lines=0, verified=0)

        def fill(page, round):
            content = (b"%08d%08d" % (page, round)) * (PAGE // 16)
            memory[page * PAGE:(page + 1) * PAGE] = content
            checksums[page] = zlib.crc32(content)

        def verify():
            bad = 0
            for page in range(PAGES):
                with lock:
                    if zlib.crc32(memoryview(memory)[page * PAGE:(page + 1) * PAGE]) != checksums[page]:
                        bad += 1
            return bad

        def rewrite():
            round = 0
            while True:
                round += 1
                for page in range(round % 3, PAGES, 97):
                    with lock:
                        fill(page, round)
                        state["rewrites"] += 1
                time.sleep(0.05)

        def append():
            with open("\(logFile)", "a", buffering=1) as log:
                while True:
                    state["log_lines"] += 1
                    log.write("%d %.6f\\n" % (state["log_lines"], time.monotonic()))
                    time.sleep(0.05)

        def watch_clocks():
            wall, steady = time.time(), time.monotonic()
            while True:
                time.sleep(0.002)
                now, tick = time.time(), time.monotonic()
                if tick < steady or tick - steady > 5:
                    state["monotonic_jumps"] += 1
                state["longest_pause_ms"] = max(state["longest_pause_ms"], (now - wall) * 1000)
                wall, steady = now, tick

        def serve(port, handle):
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", port))
            listener.listen(16)
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

        def stream(connection):
            # Echoes what arrives: the client numbers its bytes and checks that they come back in order.
            with connection:
                while True:
                    data = connection.recv(65536)
                    if not data:
                        return
                    connection.sendall(data)

        def status(connection):
            with connection:
                report = dict(state, pid=os.getpid(), bad_pages=verify(), monotonic=time.monotonic())
                state["longest_pause_ms"] = 0.0
                connection.sendall(json.dumps(report).encode() + b"\\n")

        for page in range(PAGES):
            fill(page, 0)
        for work in (rewrite, append, watch_clocks):
            threading.Thread(target=work, daemon=True).start()
        threading.Thread(target=serve, args=(\(statusPort), status), daemon=True).start()
        serve(\(streamPort), stream)
        """
}

/// What the workload says of itself.
struct DemoStatus: Decodable, Sendable {
    let pid: Int
    let rewrites: Int
    let badPages: Int
    let monotonicJumps: Int
    /// The longest gap that a thread sleeping 2 ms at a time saw on the wall clock since the last report, ms.
    let longestPauseMs: Double
    let logLines: Int
    let monotonic: Double

    enum CodingKeys: String, CodingKey {
        case pid, rewrites, monotonic
        case badPages = "bad_pages"
        case monotonicJumps = "monotonic_jumps"
        case longestPauseMs = "longest_pause_ms"
        case logLines = "log_lines"
    }
}
