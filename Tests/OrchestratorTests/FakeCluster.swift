import Isolation
import Logging
import Synchronization

@testable import Orchestrator

/// Two or more agents that share a store and speak to each other without a network.
final class FakeCluster: Sendable {
    let world = FakeWorld()
    let store: FaultyStore
    let peers = FakePeers()
    private let agents = Mutex<[String: HostAgent]>([:])
    private let sandboxes = Mutex<[String: FakeSandboxes]>([:])

    init(hosts: [String] = ["h1", "h2"]) async throws {
        store = FaultyStore(MemoryStore())
        for (index, name) in hosts.enumerated() {
            let record = HostRecord(name: name, address: "10.0.0.\(index + 1)", port: 1)
            try await store.write(HostRecord.key(name), record, expect: .any)
            sandboxes.withLock { $0[name] = FakeSandboxes(world: world, host: name) }
            start(record)
        }
    }

    func agent(_ name: String) -> HostAgent {
        guard let agent = agents.withLock({ $0[name] }) else { preconditionFailure("no host \(name)") }
        return agent
    }

    func sandboxes(_ name: String) -> FakeSandboxes {
        guard let found = sandboxes.withLock({ $0[name] }) else { preconditionFailure("no host \(name)") }
        return found
    }

    /// A new daemon on a host whose earlier one was killed: it knows what the store and the host know.
    func restart(_ name: String) async throws {
        start(agent(name).around.host)
        try await agent(name).adoptAll()
    }

    private func start(_ record: HostRecord) {
        var logger = Logger(label: record.name)
        logger.logLevel = .critical
        let agent = HostAgent(
            HostAgent.Surroundings(
                host: record,
                sandboxes: sandboxes(record.name),
                images: FakeImages(),
                store: store,
                peers: peers,
                routes: NoRoutes(),
                sessions: NoSessions(),
                events: EventLog(host: record.name, store: store, logger: logger),
                logger: logger
            )
        )
        agents.withLock { $0[record.name] = agent }
        peers.register(agent, as: record.name)
    }

    func launch(_ user: String = "alice", on host: String = "h1") async throws -> LaunchReply {
        let request = LaunchRequest(
            user: user,
            image: "busybox",
            limits: (memory: 64 << 20, cpus: 1, pids: 64),
            program: ["/bin/true"]
        )
        return try await agent(host).launch(request)
    }

    func handOff(_ user: String = "alice", from: String = "h1", to: String = "h2") async throws -> HandoffReport {
        try await agent(from).handOff(HandoffRequest(user: user, to: to)) { _ in }
    }
}

struct FakeImages: BaseImages {
    func resolve(_ nameOrDigest: String) async throws -> String { "sha256:" + nameOrDigest }
    func has(_ digest: String) async -> Bool { true }
}

struct NoRoutes: SMIRoutes {
    func route(_ address: SandboxAddress, via host: HostRecord) async {}
    func drop(_ address: SandboxAddress) async {}
}

struct NoSessions: SessionGate {
    func closeAll(_ spec: SandboxSpec) async {}
}

/// A store that can be told to lose answers.
final class FaultyStore: ClusterStore {
    enum Fault: Sendable {
        /// The write is applied and its answer is lost.
        case answerLost
        /// The write is lost.
        case unavailable
    }

    private let inner: MemoryStore
    private let faults = Mutex<[Fault]>([])

    init(_ inner: MemoryStore) {
        self.inner = inner
    }

    /// The next writes to SMI records meet these faults, one each.
    func inject(_ next: Fault...) {
        faults.withLock { $0 = next }
    }

    func get(_ key: String) async throws(StoreError) -> StoreEntry? { try await inner.get(key) }
    func list(prefix: String) async throws(StoreError) -> [StoreEntry] { try await inner.list(prefix: prefix) }

    func put(_ key: String, _ value: [UInt8], expect: StoreExpectation) async throws(StoreError) -> Int64 {
        let fault = key.hasPrefix(SMIRecord.prefix) ? faults.withLock { $0.isEmpty ? nil : $0.removeFirst() } : nil
        switch fault {
        case .unavailable: throw .unavailable(cause: "cut", remedy: "none")
        case .answerLost:
            try await inner.put(key, value, expect: expect)
            throw .inDoubt(cause: "cut", remedy: "none")
        case nil: return try await inner.put(key, value, expect: expect)
        }
    }

    func delete(_ key: String, expect: StoreExpectation) async throws(StoreError) -> Int64 {
        try await inner.delete(key, expect: expect)
    }

    func watch(prefix: String) -> AsyncThrowingStream<StoreEvent, any Error> { inner.watch(prefix: prefix) }
}

/// Calls between the agents of one test; the link of a hand-off can be cut at its n-th message.
final class FakePeers: PeerCalls {
    private let agents = Mutex<[String: HostAgent]>([:])
    /// Messages of a hand-off that still pass, source to destination; nil passes all.
    private let passing = Mutex<Int?>(nil)
    private let answersPass = Mutex(true)

    func register(_ agent: HostAgent, as name: String) { agents.withLock { $0[name] = agent } }
    func cut(after messages: Int?, answersPass: Bool = true) {
        passing.withLock { $0 = messages }
        self.answersPass.withLock { $0 = answersPass }
    }

    func openHandoff(to host: HostRecord) async throws -> any HandoffLink {
        guard let agent = agents.withLock({ $0[host.name] }) else {
            throw OrchestratorError(.hostDown, cause: "\(host.name) is down", remedy: "none")
        }
        return FakeLink(agent: agent, passing: passing.withLock { $0 }, answersPass: answersPass.withLock { $0 })
    }

    func status(of user: String, at host: HostRecord) async throws -> PeerSMIStatus {
        guard let agent = agents.withLock({ $0[host.name] }) else {
            throw OrchestratorError(.hostDown, cause: "\(host.name) is down", remedy: "none")
        }
        return try await agent.status(user)
    }

    func call(
        _ method: ControlMethod,
        _ json: [UInt8],
        at host: HostRecord,
        timeout: Duration
    ) async throws -> [UInt8] { [] }

    func stream(
        _ method: ControlMethod,
        _ json: [UInt8],
        at host: HostRecord,
        _ document: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws {}

    func pid(of host: HostRecord, timeout: Duration) async throws -> Int32 { 1 }
    func fetchImage(_ digest: String, from host: HostRecord) async throws {}
}

/// A hand-off between two agents of one process.
final class FakeLink: HandoffLink {
    private let arrivals = BoundedChannel<HandoffArrival>(limit: 1)
    private let answers: AsyncStream<Answer>
    private let answer: AsyncStream<Answer>.Continuation
    private let agent: HostAgent
    private let left: Mutex<Int?>
    private let answersPass: Bool

    enum Answer: Sendable {
        case prepared
        case outcome(HandoffOutcome)
    }

    init(agent: HostAgent, passing: Int?, answersPass: Bool) {
        self.agent = agent
        self.left = Mutex(passing)
        self.answersPass = answersPass
        (answers, answer) = AsyncStream.makeStream()
    }

    private func pass() throws {
        let cut = left.withLock { left -> Bool in
            guard let count = left else { return false }
            left = max(0, count - 1)
            return count == 0
        }
        if cut {
            arrivals.finish()
            throw OrchestratorError(.handoffFailed, cause: "the link was cut", remedy: "none")
        }
    }

    func prepare(_ preparation: HandoffPreparation) async throws -> HandoffOutcome? {
        try pass()
        let replies = FakeReplies(arrivals: arrivals, answer: answer, answersPass: answersPass)
        Task { [agent] in await agent.arrive(preparation, replies: replies) }
        for await answer in answers {
            if case .outcome(let outcome) = answer { return outcome }
            return nil
        }
        throw OrchestratorError(.handoffFailed, cause: "no answer", remedy: "none")
    }

    func send(_ stream: CutStream, _ bytes: [UInt8]) async throws -> Int {
        try pass()
        try await arrivals.send(.chunk(stream, bytes))
        return bytes.count
    }

    func complete(bytes: [CutStream: Int64], memoryEpoch: UInt64?) async throws {
        try pass()
        try await arrivals.send(.complete(bytes, memoryEpoch: memoryEpoch))
    }

    func outcome() async throws -> HandoffOutcome {
        for await answer in answers {
            if case .outcome(let outcome) = answer { return outcome }
        }
        throw OrchestratorError(.handoffFailed, cause: "contact was lost", remedy: "none")
    }

    func close(abandoning reason: OrchestratorError?) async {
        if let reason { try? await arrivals.send(.abandoned(reason)) }
        arrivals.finish()
    }
}

struct FakeReplies: HandoffReplies {
    let arrivals: BoundedChannel<HandoffArrival>
    let answer: AsyncStream<FakeLink.Answer>.Continuation
    /// False: the destination's last word is lost, as if the link was cut.
    let answersPass: Bool

    func next() async -> HandoffArrival? {
        try? await arrivals.next()
    }

    func sayPrepared() async { answer.yield(.prepared) }

    func sayResumed(generation: Int, phases: [String: Double]) async {
        if answersPass { answer.yield(.outcome(.resumed(phases: phases))) }
        answer.finish()
        arrivals.finish()
    }

    func sayRefused(_ error: OrchestratorError) async {
        if answersPass { answer.yield(.outcome(.refused(error))) }
        answer.finish()
        arrivals.finish()
    }
}
