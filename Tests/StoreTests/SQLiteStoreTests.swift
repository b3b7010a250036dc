import Foundation
import GRDB
import Glibc
import Testing

@testable import Orchestrator

/// What only the store on disk has to do.
@Suite("The SQLite store", .serialized, .timeLimit(.minutes(5)))
struct SQLiteStoreTests {
    @Test("keeps entries and the revision when it is closed and opened again")
    func reopening() async throws {
        try await withDirectory { directory in
            let path = directory + "/cluster.sqlite"
            let first = try SQLiteStore(path: path)
            try await first.put("a", [1], expect: .absent)
            let revision = try await first.put("b", [2], expect: .absent)
            first.close()
            let second = try SQLiteStore(path: path)
            defer { second.close() }
            #expect(try await second.get("a")?.value == [1])
            #expect(try await second.put("b", [3], expect: .revision(revision)) == revision + 1)
        }
    }

    @Test("commits with synchronous = FULL")
    func durability() async throws {
        try await withDirectory { directory in
            let store = try SQLiteStore(path: directory + "/cluster.sqlite")
            defer { store.close() }
            #expect(try await store.synchronousSetting() == 2)
        }
    }

    @Test("is opened by one process at a time")
    func secondOpener() async throws {
        try await withDirectory { directory in
            let path = directory + "/cluster.sqlite"
            let store = try SQLiteStore(path: path)
            let error = #expect(throws: StoreError.self) { _ = try SQLiteStore(path: path) }
            #expect(error?.cause.contains("another process has the store open") == true)
            store.close()
            try SQLiteStore(path: path).close()
        }
    }

    @Test("refuses a damaged file and says so")
    func damagedFile() async throws {
        try await withDirectory { directory in
            let path = directory + "/cluster.sqlite"
            try Data(repeating: 0x5a, count: 8192).write(to: URL(fileURLWithPath: path))
            let error = #expect(throws: StoreError.self) { _ = try SQLiteStore(path: path) }
            #expect(error?.cause.contains("damaged") == true)
        }
    }

    @Test("refuses a file that a newer version wrote")
    func newerFormat() async throws {
        try await withDirectory { directory in
            let path = directory + "/cluster.sqlite"
            try SQLiteStore(path: path).close()
            let queue = try DatabaseQueue(path: path)
            try await queue.write { try $0.execute(sql: "PRAGMA user_version = 99") }
            try queue.close()
            let error = #expect(throws: StoreError.self) { _ = try SQLiteStore(path: path) }
            #expect(error?.cause.contains("newer") == true)
        }
    }

    @Test("refuses a directory that does not exist")
    func missingDirectory() async throws {
        try await withDirectory { directory in
            let path = directory + "/none/cluster.sqlite"
            let error = #expect(throws: StoreError.self) { _ = try SQLiteStore(path: path) }
            #expect(error?.remedy.isEmpty == false)
        }
    }

    @Test("ends watches and refuses requests once it is closed")
    func closing() async throws {
        try await withDirectory { directory in
            let store = try SQLiteStore(path: directory + "/cluster.sqlite")
            var events = store.watch(prefix: "").makeAsyncIterator()
            #expect(try await events.next() == .snapshot([], revision: 0))
            store.close()
            await #expect(throws: StoreError.self) { _ = try await events.next() }
            await #expect(throws: StoreError.self) { try await store.get("k") }
            await #expect(throws: StoreError.self) { try await store.put("k", [], expect: .any) }
        }
    }

    @Test("cuts off a consumer that falls behind, and nobody else")
    func slowConsumer() async throws {
        try await withDirectory { directory in
            let store = try SQLiteStore(path: directory + "/cluster.sqlite", watchLimit: 8)
            defer { store.close() }
            var slow = store.watch(prefix: "").makeAsyncIterator()
            #expect(try await slow.next() == .snapshot([], revision: 0))
            var quick = store.watch(prefix: "").makeAsyncIterator()
            _ = try await quick.next()
            for index in 0..<20 as Range<UInt8> {
                let revision = try await store.put("k", [index], expect: .any)
                #expect(try await quick.next() == .put(StoreEntry(key: "k", value: [index], revision: revision)))
            }
            for index in 0..<8 as Range<UInt8> {
                #expect(try await slow.next() == .put(StoreEntry(key: "k", value: [index], revision: Int64(index) + 1)))
            }
            await #expect(throws: StoreError.self) { _ = try await slow.next() }
        }
    }

    @Test("loses nothing that was acknowledged when its process is killed")
    func killedProcess() async throws {
        try await withDirectory { directory in
            let path = directory + "/cluster.sqlite"
            for round in 1...3 {
                let acknowledged = try await killWriter(path: path, round: round, after: 40)
                let store = try SQLiteStore(path: path)
                let entries = try await store.list(prefix: "round/\(round)/")
                let found = Set(entries.compactMap { Int($0.key.split(separator: "/")[2]) })
                store.close()
                #expect(acknowledged >= 40)
                #expect(found.isSuperset(of: 0..<acknowledged))
                #expect(found.count <= acknowledged + 1)
            }
        }
    }

    /// Not a test by itself: the process that `killedProcess` kills.
    @Test("writes until it is killed", .enabled(if: getenv("SMIRUN_TEST_WRITER") != nil, "child of another test"))
    func writer() async throws {
        let path = String(cString: getenv("SMIRUN_TEST_WRITER"))
        let round = String(cString: getenv("SMIRUN_TEST_ROUND"))
        let store = try SQLiteStore(path: path)
        for index in 0..<100_000 {
            try await store.put("round/\(round)/\(index)", [1], expect: .absent)
            let line = Array("ACK \(index)\n".utf8)
            _ = line.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
        }
    }

    @Test("commits in milliseconds")
    func commitLatency() async throws {
        try await withDirectory { directory in
            let store = try SQLiteStore(path: directory + "/cluster.sqlite")
            defer { store.close() }
            let clock = ContinuousClock()
            var durations: [Duration] = []
            for index in 0..<300 {
                durations.append(
                    try await clock.measure { try await store.put("k\(index % 10)", [1, 2, 3], expect: .any) }
                )
            }
            print("figure: store sqlite: commit (fsync) \(Spread(durations).text)")
        }
    }
}

/// Starts this test program again as a writer, kills it once it has acknowledged `count` writes, and returns how many
/// it acknowledged in the end.
private func killWriter(path: String, round: Int, after count: Int) async throws -> Int {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    var arguments = Array(CommandLine.arguments.dropFirst())
    while let index = arguments.firstIndex(where: { ["--filter", "--skip"].contains($0) }) {
        arguments.removeSubrange(index..<min(index + 2, arguments.endIndex))
    }
    process.arguments = arguments + ["--filter", "SQLiteStoreTests/writer"]
    process.environment = ProcessInfo.processInfo.environment.merging(
        ["SMIRUN_TEST_WRITER": path, "SMIRUN_TEST_ROUND": "\(round)"],
        uniquingKeysWith: { $1 }
    )
    process.standardInput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let reader = pipe.fileHandleForReading
    return await withCheckedContinuation { continuation in
        Thread.detachNewThread {
            var text = Data()
            var killed = false
            while case let data = reader.availableData, !data.isEmpty {
                text += data
                if !killed, acknowledged(text) >= count {
                    kill(process.processIdentifier, SIGKILL)
                    killed = true
                }
            }
            process.waitUntilExit()
            continuation.resume(returning: acknowledged(text))
        }
    }
}

/// Whole `ACK` lines in a writer's output.
private func acknowledged(_ text: Data) -> Int {
    String(decoding: text, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false).dropLast()
        .count { $0.hasPrefix("ACK ") }
}
