import Isolation
import LinuxSystem
import Synchronization

@testable import Orchestrator

/// What sandboxes there are on any host of a test, and which of them run: the ground truth the invariants are about.
final class FakeWorld: Sendable {
    struct Copy: Equatable {
        enum State { case running, frozen, staged, stopped }
        var state: State
        /// Stands for the contents of memory and files: a restored copy must be the one that was frozen.
        var contents: Int
        var hasCut = false
    }

    private struct State {
        var copies: [String: [String: Copy]] = [:]
        var mostRunning = 0
        var nextContents = 1
    }

    private let state = Mutex(State())

    /// The most copies of one SMI that ever ran at the same time.
    var mostRunning: Int { state.withLock(\.mostRunning) }

    func copy(_ user: String, on host: String) -> Copy? {
        state.withLock { $0.copies[host]?[user] }
    }

    func copies(on host: String) -> [String: Copy] {
        state.withLock { $0.copies[host] ?? [:] }
    }

    func runningHosts(_ user: String) -> [String] {
        state.withLock { state in
            state.copies.keys.filter { state.copies[$0]?[user]?.state == .running }.sorted()
        }
    }

    func set(_ user: String, on host: String, _ copy: Copy?) {
        state.withLock { state in
            state.copies[host, default: [:]][user] = copy
            let running = state.copies.values.filter { $0[user]?.state == .running }.count
            state.mostRunning = max(state.mostRunning, running)
        }
    }

    func newContents() -> Int {
        state.withLock { state in
            state.nextContents += 1
            return state.nextContents
        }
    }
}

/// One host's sandboxes in a test; a step named in `failing` throws.
final class FakeSandboxes: SandboxHosting {
    let world: FakeWorld
    let host: String
    private let failing = Mutex<Set<String>>([])

    init(world: FakeWorld, host: String) {
        self.world = world
        self.host = host
    }

    func fail(_ steps: String...) {
        failing.withLock { $0 = Set(steps) }
    }

    private func step(_ name: String) throws {
        if failing.withLock({ $0.contains(name) }) {
            throw IsolationError(.systemCall, cause: "\(name) was made to fail", remedy: "none")
        }
    }

    private func existing(_ user: String) throws -> FakeWorld.Copy {
        guard let copy = world.copy(user, on: host) else {
            throw IsolationError(.sandboxUnknown, cause: "no \(user) on \(host)", remedy: "none")
        }
        return copy
    }

    func prepare() async throws {}

    func launch(_ spec: SandboxSpec) async throws -> SandboxProcess {
        try step("launch")
        world.set(spec.user, on: host, .init(state: .running, contents: world.newContents()))
        return SandboxProcess(pid: 1000, startTime: 1)
    }

    func survey() async throws -> [SandboxPresence] {
        world.copies(on: host).map { user, copy in
            SandboxPresence(
                user: user,
                spec: nil,
                processes: copy.state == .running || copy.state == .frozen ? 1 : 0,
                frozen: copy.state == .frozen,
                hasCut: copy.hasCut
            )
        }
    }

    func endUnfinishedRestore(_ user: String) async throws -> Bool { false }

    func adopt(_ user: String) async throws -> SandboxProcess {
        _ = try existing(user)
        return SandboxProcess(pid: 1000, startTime: 1)
    }

    func prepareCheckpoint(_ user: String) async throws { try step("prepareCheckpoint") }

    func prepareCut(_ user: String, _ prepare: @escaping CarriedCut.Preparing) async throws { try step("prepareCut") }

    func checkpoint(_ user: String, carrying memory: CarriedCut?) async throws -> CheckpointReport {
        try step("checkpoint")
        var copy = try existing(user)
        copy.state = .frozen
        copy.hasCut = true
        world.set(user, on: host, copy)
        return CheckpointReport(frozenAt: .now, phases: [:], bytes: 3)
    }

    func readCut(_ user: String) -> any ChunkSource {
        let contents = world.copy(user, on: host)?.contents ?? 0
        return ListSource([[UInt8(contents)], [2, 3]])
    }

    func readUpper(_ user: String) -> any ChunkSource { ListSource([[4], [5, 6]]) }

    func stage(_ spec: SandboxSpec) async throws {
        try step("stage")
        let cut = world.copy(spec.user, on: host)
        world.set(
            spec.user,
            on: host,
            .init(state: .staged, contents: cut?.contents ?? 0, hasCut: cut?.hasCut ?? false)
        )
    }

    func cutSink(_ user: String) async throws -> any ChunkSink {
        FirstByteSink { [world, host] byte in
            world.set(user, on: host, .init(state: .staged, contents: Int(byte)))
        }
    }

    func upperSink(_ user: String) async throws -> any ChunkSink {
        try step("upperSink")
        return FirstByteSink { _ in }
    }

    func sealCut(_ user: String, memoryEpoch: UInt64?) async throws {
        var copy = try existing(user)
        copy.hasCut = true
        world.set(user, on: host, copy)
    }

    func inheritance(_ user: String) async -> CriuInheritance? { nil }

    func restore(
        _ user: String,
        onFrozen: @escaping @Sendable (@escaping @Sendable () -> [NamespacedPid]) -> Void
    ) async throws -> SandboxProcess {
        try step("restore")
        var copy = try existing(user)
        copy.state = .frozen
        world.set(user, on: host, copy)
        onFrozen { [] }
        do {
            try step("restoreEnd")
        } catch {
            // Once: what was restored is gone, the cut is kept.
            copy.state = .staged
            world.set(user, on: host, copy)
            fail()
            throw error
        }
        return SandboxProcess(pid: 2000, startTime: 2)
    }

    func resume(_ user: String) async throws {
        try step("resume")
        var copy = try existing(user)
        copy.state = .running
        world.set(user, on: host, copy)
    }

    func freeze(_ user: String) async throws {
        var copy = try existing(user)
        copy.state = .frozen
        world.set(user, on: host, copy)
    }

    func still(_ user: String, _ body: @escaping @Sendable (Stillness) async throws -> Void) async throws {}
    func slow(_ user: String, to share: Double?) async throws {}

    func stop(_ user: String) async throws {
        guard var copy = world.copy(user, on: host) else { return }
        copy.state = .stopped
        world.set(user, on: host, copy)
    }

    func destroy(_ user: String) async throws { world.set(user, on: host, nil) }

    func discardCut(_ user: String) async throws {
        guard var copy = world.copy(user, on: host) else { return }
        copy.hasCut = false
        world.set(user, on: host, copy)
    }

    func waitForExit(_ user: String) async throws { try await Task.sleep(for: .seconds(3600)) }
    func memoryEpoch(ofCut user: String) async -> UInt64? { nil }
    func pids(_ user: String) async throws -> [NamespacedPid] { [] }
    func moveAside(_ pid: Int32) async throws {}
    func processes(_ user: String) async throws -> [SandboxProcessInfo] { [] }
    func preflight(_ user: String) async throws -> [NotMovable] { [] }
}

final class ListSource: ChunkSource {
    private let rest: Mutex<[[UInt8]]>

    init(_ chunks: [[UInt8]]) {
        rest = Mutex(chunks)
    }

    func next() async throws -> [UInt8]? {
        rest.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    }
}

final class FirstByteSink: ChunkSink {
    private let first = Mutex<UInt8?>(nil)
    private let finished: @Sendable (UInt8) -> Void

    init(_ finished: @escaping @Sendable (UInt8) -> Void) {
        self.finished = finished
    }

    func write(_ chunk: [UInt8]) async throws {
        first.withLock { $0 = $0 ?? chunk.first }
    }

    func finish() async throws {
        finished(first.withLock { $0 } ?? 0)
    }

    func abandon() async {}
}
