import BackingStore
import Foundation
import Glibc
import LinuxSystem
import Testing

@testable import Replication

extension OwnedProgram {
    /// A replica of its own directory.
    fileprivate func replica(_ name: String) throws -> MemoryReplica {
        try MemoryReplica(directory: directory + "/" + name)
    }
}

@Suite("An owner and its replicas", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct MemoryOwnerTests {
    /// A stream within this process: what is sent is taken in at once.
    private actor LocalLink: EpochLink {
        nonisolated let thread = SerialThread()
        private let replica: MemoryReplica
        private let answers: AsyncStream<EpochMessage>
        private nonisolated let answer: AsyncStream<EpochMessage>.Continuation
        private var isBroken = false
        /// Bytes.
        private(set) var sent = 0

        init(_ replica: MemoryReplica) {
            self.replica = replica
            (answers, answer) = AsyncStream.makeStream()
        }

        func breakOff() { isBroken = true }

        func send(_ message: EpochMessage) async throws {
            guard !isBroken else { throw ReplicaError(cause: "broken", remedy: "none") }
            sent += message.encoded().count
            // As on the wire.
            if let answer = try replica.take(EpochMessage(decoding: message.encoded())) { self.answer.yield(answer) }
        }

        nonisolated func next() async throws -> EpochMessage? {
            var iterator = answers.makeAsyncIterator()
            return await iterator.next()
        }

        nonisolated func close() { answer.finish() }
    }

    /// A shell that keeps a few megabytes, its memory's owner, and room for replicas.
    private func with(_ body: (OwnedProgram) async throws -> Void) async throws {
        let script = "x=$(head -c 3000000 /dev/urandom | od -An -x); : > $1/ready; while :; do y=$y.; sleep 0.01; done"
        try await OwnedProgram.with({ ["/bin/sh", "-c", script, "sh", $0] }, body)
    }

    /// Whether two stores hold the same pages.
    private func expectEqual(_ setting: OwnedProgram, _ replica: MemoryReplica) throws {
        let source = try PageStore.open(at: MemoryFlush.path(of: 7, in: setting.directory + "/owner"), readOnly: true)
        let copy = try #require(replica.stores[7])
        let pages = source.pages(limit: 1 << 20)
        #expect(pages.count > 1000)
        #expect(pages == copy.pages(limit: 1 << 20))
        var wrong = 0
        for page in pages where try source.read(page) != copy.read(page) { wrong += 1 }
        #expect(wrong == 0)
    }

    @Test(
        "meet over one stream, however many ask for it at a time, and over another where that one could not be opened"
    )
    func connecting() async throws {
        try await with { setting in
            let replica = try setting.replica("only")
            let opened = Counter()
            let connect = { @Sendable () async throws in
                try await setting.owner.connect("only") {
                    let number = await opened.next()
                    // Others come meanwhile.
                    try await Task.sleep(for: .milliseconds(50))
                    guard number > 1 else { throw ReplicaError(cause: "refused", remedy: "none") }
                    return LocalLink(replica)
                }
            }
            let results = await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<8 {
                    group.addTask { (try? await connect()) != nil }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            // The first one is told of its failure; the others get the second stream.
            #expect(results.filter { $0 }.count == 7)
            #expect(await opened.count == 2)
            #expect(await setting.owner.connected == ["only"])
            let last = try await #require(setting.owner.round())
            #expect(replica.epoch == last.epoch)
        }
    }

    @Test("leaves tracking as it is when the SMI has moved, until its processes are gone")
    func closing() async throws {
        try await with { setting in
            let replica = try setting.replica("only")
            try await setting.owner.connect("only") { LocalLink(replica) }
            _ = try await setting.owner.round()
            #expect(try isProtected(setting.process.hostPid))
            await setting.owner.close()
            // To end it takes the kernel milliseconds in which nobody can read the memory.
            #expect(try isProtected(setting.process.hostPid))
            await setting.owner.endTracking()
            #expect(try !isProtected(setting.process.hostPid))
        }
    }

    /// Whether a userfaultfd protects some mapping from unseen writes (`uw` in smaps, proc_pid_smaps(5)).
    private func isProtected(_ pid: pid_t) throws -> Bool {
        try FileContents.string(of: "/proc/\(pid)/smaps").split(separator: "\n")
            .contains { $0.hasPrefix("VmFlags:") && $0.contains(" uw") }
    }

    private actor Counter {
        private(set) var count = 0

        func next() -> Int {
            count += 1
            return count
        }
    }

    @Test("hold the same after rounds, whenever a replica joined")
    func rounds() async throws {
        try await with { setting in
            let early = try setting.replica("early")
            try await setting.owner.add("early", over: LocalLink(early))
            while try await (setting.owner.round()?.deferredPages ?? 0) > 100 {}
            let late = try setting.replica("late")
            try await setting.owner.add("late", over: LocalLink(late))
            let last = try await #require(setting.owner.round())
            #expect(early.epoch == last.epoch && late.epoch == last.epoch)
            try expectEqual(setting, early)
            try expectEqual(setting, late)
        }
    }

    @Test("agree again after a stream broke, sending only what changed since")
    func brokenStream() async throws {
        try await with { setting in
            let replica = try setting.replica("one")
            let first = LocalLink(replica)
            try await setting.owner.add("one", over: first)
            _ = try await setting.owner.warm("one")
            let whole = await first.sent
            await first.breakOff()
            _ = try await setting.owner.round()
            #expect(await setting.owner.connected.isEmpty)
            let second = LocalLink(replica)
            try await setting.owner.add("one", over: second)
            let warmth = try await setting.owner.warm("one")
            #expect(warmth.wasWarm)
            #expect(await second.sent < whole / 2)
            try expectEqual(setting, replica)
        }
    }

    @Test("agree again where a replica holds another past than the epoch that it names")
    func anotherPast() async throws {
        try await with { setting in
            let replica = try setting.replica("one")
            try await setting.owner.add("one", over: LocalLink(replica))
            _ = try await setting.owner.warm("one")
            // The same numbers, other contents.
            let path = setting.directory + "/other"
            try EpochDirectory(path).note(epoch: replica.epoch)
            _ = try PageStore.create(at: MemoryFlush.path(of: 7, in: path))
            let other = try MemoryReplica(directory: path)
            try await setting.owner.add("one", over: LocalLink(other))
            // It is found out by the first page that is sent as a difference: the shell has to write one.
            let deadline = ContinuousClock.now + .seconds(30)
            repeat {
                _ = try await setting.owner.warm("one")
            } while other.stores[7].map({ $0.statistics.pages < 1000 }) ?? true && ContinuousClock.now < deadline
            try expectEqual(setting, other)
            // An epoch that the owner never made.
            let ahead = setting.directory + "/ahead"
            try EpochDirectory(ahead).note(epoch: replica.epoch + 1000)
            let unknown = try MemoryReplica(directory: ahead)
            try await setting.owner.add("one", over: LocalLink(unknown))
            _ = try await setting.owner.warm("one")
            try expectEqual(setting, unknown)
        }
    }

    @Test("do not wait for the end of a program's forks, which are more than any round takes: the rest follows the cut")
    func forks() async throws {
        // 45 MB for each child, of which a round takes 32.
        let script = """
            x=$(head -c 15000000 /dev/urandom | od -An -x); : > $1/ready
            while :; do (sleep 0.5; :) & sleep 0.05; done
            """
        try await OwnedProgram.with({ ["/bin/sh", "-c", script, "sh", $0] }, withChildren: true) { setting in
            try await setting.owner.add("one", over: LocalLink(setting.replica("one")))
            let warming = Task { try await setting.owner.warm("one") }
            let alarm = Task {
                try await Task.sleep(for: .seconds(60))
                warming.cancel()
            }
            defer { alarm.cancel() }
            #expect(try await warming.value.mode == .postcopy)
        }
    }

    @Test("make no epoch while it is not known which host goes on, and go on where it is this one")
    func leaving() async throws {
        try await with { setting in
            let replica = try setting.replica("one")
            await setting.owner.leaves(to: "one")
            try await setting.owner.add("one", over: LocalLink(replica))
            _ = try await setting.owner.warm("one")
            let process = setting.process
            let carry = setting.directory + "/carry"
            try Directories.make(carry)
            let (_, sending) = try await setting.owner.cutting(to: "one") { maker in
                try await setting.stop()
                maker.prepare([process], directory: carry)
                try await offload { try maker.cut([process], directory: carry) }
            }
            let cut = try await sending.finished().get()
            #expect(replica.epoch == cut.epoch)
            try expectEqual(setting, replica)
            #expect(try await setting.owner.round()?.epoch == nil)
            // Late pages would come over this stream; another, as the keeping of replicas opens them, would take its place.
            #expect(await setting.owner.takeLink("one") != nil)
            try await setting.owner.connect("one") { throw ReplicaError(cause: "a second stream", remedy: "none") }
            #expect(await setting.owner.connected.isEmpty)
            kill(process.hostPid, SIGCONT)
            await setting.owner.stays(isReplica: true)
            try await setting.owner.add("one", over: LocalLink(replica))
            #expect(try await setting.owner.round()?.epoch == cut.epoch + 1)
        }
    }
}
