import Foundation
import Glibc
import LinuxSystem
import Testing

@Suite("A program of many threads or processes that moves", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct ProcessProgramTests {
    @Test("is python3 with threads: every one goes on, with its locks, conditions, queue and own variables")
    func threads() async throws {
        struct Report: Decodable {
            let pid: Int
            let tasks: [Int]
            let counts: [Int]
            let total: Int
            let laps: Int
            let sums: [Int]
            let faults: [String]
        }
        try await ClusterFixture.with { cluster in
            try await cluster.launch("alice", image: "debian", ["python3", "-c", ThreadedProgram.source])
            let clients = try await [
                LabClient(cluster, on: cluster.hosts[0], to: "alice", port: 7100),
                LabClient(cluster, on: cluster.hosts[1], to: "alice", port: 7100),
            ]
            // Both connections have their threads from here on.
            for client in clients { _ = try await report(Report.self, client) }
            let first = try await report(Report.self, clients[0])
            #expect(first.tasks.count > 14)
            for host in [cluster.hosts[1], cluster.hosts[0], cluster.hosts[1]] {
                let before = try await report(Report.self, clients[0])
                try await cluster.smirun.handOff("alice", to: host)
                for client in clients {
                    let now = try await eventually("all threads go on") { () -> Report? in
                        let now = try await self.report(Report.self, client)
                        let goesOn = zip(now.counts, before.counts).allSatisfy { $0 > $1 } && now.laps > before.laps
                        return goesOn && zip(now.sums, before.sums).allSatisfy { $0 > $1 } ? now : nil
                    }
                    #expect(now.pid == first.pid)
                    #expect(now.tasks == first.tasks)
                    #expect(now.total == now.counts.reduce(0, +))
                    #expect(now.faults.isEmpty)
                }
            }
        }
    }

    @Test("forks without end: children, pipes, shared memory, exit statuses and a zombie are as they were")
    func forks() async throws {
        struct Report: Decodable {
            let pid: Int
            let parent: Int
            let children: [String]
            let zombie: String
            let orphan: String
            let forks: Int
            let rounds: Int
            let faults: String
        }
        try await ClusterFixture.with { cluster in
            try await cluster.launch("alice", image: "debian", ["python3", "-c", ForkingProgram.source])
            let clients = try await [
                LabClient(cluster, on: cluster.hosts[0], to: "alice", port: 7200),
                LabClient(cluster, on: cluster.hosts[1], to: "alice", port: 7200),
            ]
            var first: [Report] = []
            for client in clients { first.append(try await report(Report.self, client)) }
            #expect(first[0].pid != first[1].pid, "each connection has a process of its own")
            #expect(first[0].zombie.hasSuffix("Z") && first[0].orphan.hasSuffix(" 1"), "\(first[0])")
            for host in [cluster.hosts[1], cluster.hosts[0], cluster.hosts[1]] {
                let before = try await report(Report.self, clients[0])
                try await cluster.smirun.handOff("alice", to: host)
                for (index, client) in clients.enumerated() {
                    let now = try await eventually("it forks on") { () -> Report? in
                        let now = try await self.report(Report.self, client)
                        return now.forks > before.forks && now.rounds > before.rounds ? now : nil
                    }
                    #expect(now.pid == first[index].pid && now.parent == first[index].parent)
                    #expect(now.children == first[index].children)
                    #expect(now.zombie == first[index].zombie && now.orphan == first[index].orphan)
                    #expect(now.faults == "")
                }
            }
        }
    }

    private func report<Report: Decodable>(_ type: Report.Type, _ client: LabClient) async throws -> Report {
        try JSONDecoder().decode(type, from: Data(try await client.ask("report\n", until: "\n").utf8))
    }
}

/// Threads that count under one lock, pass a turn around, feed each other through a queue, and serve connections.
private enum ThreadedProgram {
    static let source = """
        import json, os, queue, socket, threading, time

        counts, total, lock = [0] * 6, 0, threading.Lock()
        turn, laps, ring = 0, 0, threading.Condition()
        items, sums, faults = queue.Queue(8), [0, 0], []
        own = threading.local()

        def count(index):
            global total
            own.index = index
            while True:
                with lock:
                    counts[index] += 1
                    total += 1
                if own.index != index:
                    faults.append("thread %d lost its own variable" % index)
                time.sleep(0.001 * (index + 1))

        def take_turns(index):
            global turn, laps
            while True:
                with ring:
                    while turn != index:
                        ring.wait()
                    turn = (turn + 1) % 4
                    laps += index == 3
                    ring.notify_all()
                time.sleep(0.001)

        def produce():
            number = 0
            while True:
                number += 1
                items.put(number)
                sums[0] = number

        def consume():
            while True:
                number = items.get()
                if number != sums[1] + 1:
                    faults.append("item %d came after %d" % (number, sums[1]))
                sums[1] = number
                time.sleep(0.002)

        def watch_the_clock():
            last = time.monotonic()
            while True:
                time.sleep(0.005)
                now = time.monotonic()
                if now < last or now - last > 60:
                    faults.append("the clock went from %f to %f" % (last, now))
                last = now

        def serve(connection):
            for line in connection.makefile():
                with lock:
                    report = dict(pid=os.getpid(), counts=list(counts), total=total, laps=laps, sums=list(sums))
                report["tasks"] = sorted(map(int, os.listdir("/proc/self/task")))
                report["faults"] = faults
                connection.sendall(json.dumps(report).encode() + b"\\n")

        def start(function, *arguments):
            threading.Thread(target=function, args=arguments, daemon=True).start()

        for index in range(6):
            start(count, index)
        for index in range(4):
            start(take_turns, index)
        for function in (produce, consume, watch_the_clock):
            start(function)
        start(time.sleep, 1000000)
        listener = socket.create_server(("0.0.0.0", 7100))
        while True:
            start(serve, listener.accept()[0])
        """
}

/// A process that talks to three children through pipes, forks short-lived ones and checks their exit statuses, has a
/// zombie and an orphan, and forks one process for each connection; what they count is in memory that all share.
private enum ForkingProgram {
    static let source = """
        import json, mmap, os, select, signal, socket, struct, time

        shared = mmap.mmap(-1, 4096)
        names = dict(forks=0, rounds=8)

        def fault(text):
            if not shared[64]:
                shared[64:64 + len(text)] = text.encode()

        def add(name):
            at = names[name]
            struct.pack_into("<Q", shared, at, struct.unpack_from("<Q", shared, at)[0] + 1)

        def status(pid):
            with open("/proc/%d/stat" % pid) as file:
                fields = file.read().rsplit(")", 1)[1].split()
            return "%d %s" % (pid, fields[1]), "%d %s" % (pid, fields[0])

        def answer(into, out):
            while True:
                number = struct.unpack("<Q", os.read(into, 8))[0]
                os.write(out, struct.pack("<Q", number + 1))

        def child():
            down, up = os.pipe(), os.pipe()
            pid = os.fork()
            if pid == 0:
                answer(down[0], up[1])
            return pid, down[1], up[0]

        def serve(connection):
            for line in connection.makefile():
                report = {name: struct.unpack_from("<Q", shared, at)[0] for name, at in names.items()}
                report["faults"] = shared[64:].rstrip(b"\\0").decode()
                report.update(pid=os.getpid(), parent=os.getppid(), children=[status(child[0])[0] for child in children])
                report.update(zombie=status(zombie)[1], orphan=status(orphan)[0])
                connection.sendall(json.dumps(report).encode() + b"\\n")

        children = [child() for _ in range(3)]
        zombie = os.fork()
        if zombie == 0:
            os._exit(200)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            orphan = os.fork()
            if orphan == 0:
                signal.pause()
            os.write(writing, struct.pack("<Q", orphan))
            os._exit(0)
        os.waitpid(between, 0)
        orphan = struct.unpack("<Q", os.read(reading, 8))[0]
        listener = socket.create_server(("0.0.0.0", 7200))
        number = 0
        while True:
            if select.select([listener], [], [], 0.003)[0]:
                connection = listener.accept()[0]
                if os.fork() == 0:
                    serve(connection)
                    os._exit(0)
                connection.close()
            for _, down, up in children:
                os.write(down, struct.pack("<Q", number))
                answered = struct.unpack("<Q", os.read(up, 8))[0]
                if answered != number + 1:
                    fault("child answered %d to %d" % (answered, number))
            add("rounds")
            short = os.fork()
            if short == 0:
                os._exit(number % 200)
            ended = os.waitstatus_to_exitcode(os.waitpid(short, 0)[1])
            if ended != number % 200:
                fault("child %d ended with %d, not %d" % (short, ended, number % 200))
            kept = os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT).si_status
            if kept != 200:
                fault("the zombie's status became %d" % kept)
            add("forks")
            number += 1
        """
}
