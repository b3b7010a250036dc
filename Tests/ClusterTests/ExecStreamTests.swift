import Foundation
import Glibc
import LinuxSystem
import Synchronization
import Testing

@Suite("A program run by exec in a machine that moves", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct ExecStreamTests {
    @Test("gets and gives every byte as it is, keeps its streams apart, and ends with its own status")
    func binaryStreams() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice")
            let script = "echo begun >&2; cat; echo ended >&2; exit 9"
            let stream = try BinaryStream(cluster, ["exec", "alice", "--", "sh", "-c", script])
            let flag = Flag()
            async let sent = stream.send(until: flag)
            async let checked = stream.check()
            // Whatever fails: both end when the program does.
            defer {
                flag.raise()
                stream.kill()
            }
            for round in 1...4 {
                let before = stream.received
                // In full flow before each of the moves.
                _ = try await eventually("bytes come back") { stream.received > before + (4 << 20) ? true : nil }
                try await smirun.handOff("alice", to: cluster.hosts[round % 2])
            }
            flag.raise()
            let (there, back) = try await (sent, checked)
            #expect(there == back)
            let (status, error) = try await stream.finish()
            #expect(status == 9)
            #expect(error == "begun\nended\n")
        }
    }
}

/// A command whose standard input is fed with blocks of bytes of every value, each block unlike the others, and whose
/// output must be the same.
private final class BinaryStream: Sendable {
    private let child: ChildProcess
    private let input: Mutex<Descriptor?>
    private let output: Descriptor
    private let error: Descriptor
    private let count = Mutex(0)
    private let block: [UInt8]

    init(_ cluster: ClusterFixture, _ arguments: [String]) throws {
        let pipes = try (DescriptorPair.pipe(), DescriptorPair.pipe(), DescriptorPair.pipe())
        var command = HelperCommand([Smirun.binary] + arguments)
        if let socket = cluster.smirun.socket { command.environment.append("SMIRUN_SOCKET=\(socket)") }
        child = try command.start([0: pipes.0.read, 1: pipes.1.write, 2: pipes.2.write])
        input = Mutex(pipes.0.write)
        (output, error) = (pipes.1.read, pipes.2.read)
        var generator = SystemRandomNumberGenerator()
        block = (0..<65536).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }

    /// Bytes that have come back.
    var received: Int { count.withLock { $0 } }

    /// Sends blocks until told to stop, then ends the input; returns how many bytes.
    func send(until flag: Flag) async throws -> Int {
        try await offload { [self] in
            guard let pipe = input.withLock({ $0 }) else { return 0 }
            defer { input.withLock { $0 = nil } }
            var number = 0
            while !flag.isRaised {
                try FileContents.writeAll(contents(number), to: pipe)
                number += 1
            }
            return number * block.count
        }
    }

    /// Compares what comes back to its end; returns how many bytes were as they should be.
    func check() async throws -> Int {
        try await offload { [self] in
            var expected: [UInt8] = []
            var (number, total) = (0, 0)
            var buffer = [UInt8](repeating: 0, count: 128 << 10)
            while true {
                let got = try syscall("read") { read(output.raw, &buffer, buffer.count) }
                if got == 0 { return total }
                while expected.count < got {
                    expected += contents(number)
                    number += 1
                }
                guard buffer[..<got].elementsEqual(expected[..<got]) else {
                    throw Silence(cause: "the bytes from \(total) on are not those that were sent")
                }
                expected.removeFirst(got)
                total += got
                count.withLock { $0 = total }
            }
        }
    }

    /// Ends the command, if it still runs.
    func kill() { try? child.signal(SIGKILL) }

    /// The exit status and what was written to standard error.
    func finish() async throws -> (Int32, String) {
        try await offload { [self] in
            let text = error.readUntil(nil, before: .now + .seconds(30))
            return (try child.wait().code, text)
        }
    }

    private func contents(_ number: Int) -> [UInt8] {
        var block = block
        withUnsafeBytes(of: number) { block.replaceSubrange(0..<8, with: $0) }
        return block
    }
}
