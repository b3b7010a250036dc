import BackingStore
import Foundation
import Glibc
import LinuxSystem
import Logging
import Synchronization
import Testing

@testable import Replication

@Suite("A supply of late pages", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct LateSupplyTests {
    /// A stream within this process to a replica that may lack pages; breaks after so many messages.
    private final class LateLink: EpochLink {
        let thread = SerialThread()
        private let replica: MemoryReplica
        private let left: Mutex<Int>
        private let out: AsyncStream<EpochMessage>.Continuation
        private let stream: AsyncStream<EpochMessage>

        init(_ replica: MemoryReplica, messages: Int = .max) {
            self.replica = replica
            left = Mutex(messages)
            (stream, out) = AsyncStream.makeStream()
        }

        func say(_ message: EpochMessage) { out.yield(message) }

        func send(_ message: EpochMessage) async throws {
            let isBroken = left.withLock { left in
                left -= 1
                return left < 0
            }
            guard !isBroken else {
                out.finish()
                throw ReplicaError(cause: "broken", remedy: "none")
            }
            if case .hello = message {
                for (process, pages) in replica.lacking where !pages.isEmpty {
                    out.yield(.late(process: process, pages: pages))
                }
            }
            if let answer = try replica.take(message) { out.yield(answer) }
        }

        func next() async throws -> EpochMessage? {
            var iterator = stream.makeAsyncIterator()
            return await iterator.next()
        }

        func close() { out.finish() }
    }

    private struct Setting {
        let program: OwnedProgram
        let replica: MemoryReplica
        let late: LatePages
        let cut: MemoryCut
        let link: LateLink

        var owner: MemoryOwner { program.owner }

        func supply(
            _ pages: FrozenPages,
            verdict: @escaping @Sendable () async -> LateSupply.End? = { nil },
            open: @escaping @Sendable () async throws -> any EpochLink
        ) async -> LateSupply {
            LateSupply(
                LateSupply.Surroundings(
                    user: "alice",
                    generation: 2,
                    image: "none",
                    host: "there",
                    rates: LinkRates(),
                    priority: LinkPriority(),
                    open: open,
                    verdict: verdict,
                    logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
                ),
                pages: pages,
                late: cut.latePages,
                hot: cut.hotPages,
                over: link,
                keeping: await owner.directory
            )
        }
    }

    /// A program that rewrites 4 MB, stopped by a late cut that a replica has taken in.
    private func with(_ body: (Setting) async throws -> Void) async throws {
        try await OwnedProgram.with(Self.rewriter) { program in try await body(try await stopped(program)) }
    }

    /// Compiles it; it writes its file when it has filled its memory.
    private static func rewriter(_ directory: String) throws -> [String] {
        let sources = "/" + #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
        let program = directory + "/rewriter"
        let source = sources + "/ClusterTests/Programs/rewriter.c"
        let built = try HelperCommand(["cc", "-O1", "-pthread", "-o", program, source]).run(timeout: .seconds(60))
        try #require(built.status == 0, "\(built.error)")
        return [program, "4", "20000", directory + "/ready"]
    }

    private func stopped(_ program: OwnedProgram) async throws -> Setting {
        let (process, owner) = (program.process, program.owner)
        let carry = program.directory + "/carry"
        try Directories.make(carry)
        let replica = try MemoryReplica(directory: program.directory + "/replica")
        let link = LateLink(replica)
        await owner.leaves(to: "there")
        try await owner.add("there", over: link)
        _ = try await owner.round()
        try await Task.sleep(for: .milliseconds(200))
        let (_, sending) = try await owner.cutting(to: "there", late: true) { maker in
            maker.prepare([process], directory: carry)
            try await program.stop()
            try await offload { try maker.cut([process], directory: carry) }
        }
        let cut = try await sending.finished().get()
        #expect(replica.isLacking)
        #expect(replica.epoch == cut.epoch)
        let late = LatePages()
        _ = replica.serve { late.arrived($0, $1) }
        late.ask { link.say($0) }
        _ = await owner.takeLink("there")
        return Setting(program: program, replica: replica, late: late, cut: cut, link: link)
    }

    /// Whether a backing file of the replica holds what the stopped process has.
    private func expectFrozen(_ setting: Setting) throws {
        let copy = try #require(setting.replica.stores[7])
        var wrong = 0
        for pages in setting.cut.latePages[7] ?? [] {
            _ = try ProcessMemoryReader.read([pages], of: setting.program.process.hostPid) {
                (numbers, data) throws -> Void in
                for (i, page) in numbers.enumerated() {
                    let held = try copy.read(page)
                    let there = Array(UnsafeRawBufferPointer(start: data + i * 4096, count: 4096))
                    if held != there { wrong += 1 }
                }
            }
        }
        #expect(wrong == 0)
    }

    @Test("brings what is waited for at once, and the rest when the SMI runs; then both hold the next epoch")
    func plain() async throws {
        try await with { setting in
            let supply = await setting.supply(setting.owner.frozenPages()) { throw CancellationError() }
            await supply.start()
            let pages = try #require(setting.cut.latePages[7]?.flatMap { Array($0) })
            #expect(pages.count > 500)
            setting.late.want(7, pages[300])
            while setting.late.figures.pages == 0 { try await Task.sleep(for: .milliseconds(1)) }
            #expect(setting.replica.lacking[7]?.contains { $0.contains(pages[300]) } == false)
            try await Task.sleep(for: .milliseconds(100))
            #expect(setting.late.figures.pages == 1, "nobody waits for the others, and the SMI does not run yet")
            #expect(setting.late.figures.waited.count == 1)
            await supply.push()
            #expect(await supply.finished() == .whole)
            #expect(setting.replica.epoch == setting.cut.epoch + 1)
            #expect(!setting.replica.isLacking)
            #expect(setting.late.figures.pages == pages.count)
            try expectFrozen(setting)
            #expect(await setting.owner.directory.epoch == setting.cut.epoch + 1)
        }
    }

    @Test("is told of by the waits' shares")
    func shares() {
        var figures = LateFigures()
        #expect(figures.wait(1) == .zero)
        figures.waited = (1...200).reversed().map { .milliseconds($0) }
        #expect(figures.wait(0) == .milliseconds(1))
        #expect(figures.wait(0.5) == .milliseconds(100))
        #expect(figures.wait(0.99) == .milliseconds(198))
        #expect(figures.wait(1) == .milliseconds(200))
    }

    @Test("goes on over a new stream, wherever the one before broke, and where the destination started anew")
    func broken() async throws {
        try await with { setting in
            let opened = Mutex(0)
            let replica = setting.replica
            let links = Mutex<[LateLink]>([])
            let supply = await setting.supply(setting.owner.frozenPages()) {
                let count = opened.withLock { count in
                    count += 1
                    return count
                }
                let link = LateLink(replica, messages: count < 3 ? 40 * count : .max)
                links.withLock { $0.append(link) }
                return link
            }
            await supply.start()
            await supply.push()
            setting.link.close()
            #expect(await supply.finished() == .whole)
            #expect(opened.withLock { $0 } == 3)
            #expect(!replica.isLacking)
            try expectFrozen(setting)
        }
    }

    @Test("ends where the store says that it is over, and leaves the files at the epoch of the cut")
    func over() async throws {
        for end in [LateSupply.End.returned, .gone] {
            try await with { setting in
                let supply = await setting.supply(
                    setting.owner.frozenPages(),
                    verdict: { end },
                    open: { throw ReplicaError(cause: "nobody there", remedy: "none") }
                )
                await supply.start()
                setting.link.close()
                try await Task.sleep(for: .milliseconds(100))
                await supply.push()
                #expect(await supply.finished() == end)
                #expect(await setting.owner.directory.epoch == setting.cut.epoch)
                let path = MemoryFlush.path(of: 7, in: setting.program.directory + "/owner")
                #expect(try PageStore.open(at: path, readOnly: true).statistics.epoch == setting.cut.epoch)
            }
        }
    }

    @Test("is taken up by a daemon that knows only the files, as is a replica that was restarted")
    func restarted() async throws {
        try await with { setting in
            // The file that says what is lacking outlives the replica's daemon.
            let path = setting.program.directory + "/replica"
            #expect(try EpochDirectory(path).isLacking)
            let again = try MemoryReplica(directory: path)
            #expect(again.lacking == setting.replica.lacking)
            again.giveUpLate()
            #expect(!again.isLacking && again.unusableEpoch == setting.cut.epoch)
            #expect(try !EpochDirectory(path).isLacking)
        }
    }
}
