import Glibc
import LinuxSystem
import Synchronization

/// Finds a user's SMI for the broker; the agent implements it.
package protocol SessionResolving: Sendable {
    /// An authenticated connection to the SMI's smi-init: its own (`InitConnection.connect`), or one end of a relay
    /// to the owner. Waits while the SMI is between hosts; is cancelled when the client goes away.
    ///
    /// - Throws: an `IsolationError` is told to the client as it is.
    func connect(_ user: String) async throws -> Descriptor

    /// Where smi-init of an SMI of this host listens; nil for one that is not here.
    func endpoint(_ user: String) async -> InitEndpoint?
}

/// The daemon's session socket: gives connections into sandboxes to the command line, and takes them back.
package final class SessionBroker: Sendable {
    enum Stage: Sendable {
        case asking(until: ContinuousClock.Instant)
        case connecting(user: String, Task<Void, Never>)
        case serving(user: String, Descriptor)
    }

    struct Client: Sendable {
        let socket: Descriptor
        var stage: Stage
    }

    struct State: Sendable {
        var clients: [UInt64: Client] = [:]
        var lastClient: UInt64 = 0
        var stopped = false
    }

    static let maxClients = 1024
    static let requestWithin = Duration.seconds(5)

    let resolver: any SessionResolving
    let state = Mutex(State())
    private let path: String
    private let listener: Descriptor
    private let wake: (read: Descriptor, write: Descriptor)

    /// Listens at `path` (mode 0600); only root and the daemon's own user are served.
    package init(path: String, resolver: any SessionResolving) throws(SyscallError) {
        self.path = path
        self.resolver = resolver
        listener = try StreamSocket.listen(unix: path, type: SOCK_SEQPACKET)
        wake = try DescriptorPassing.pipe()
        for descriptor in [listener, wake.read, wake.write] {
            try syscall("fcntl") { fcntl(descriptor.raw, F_SETFL, O_NONBLOCK) }
        }
    }

    /// Serves from now on, on a thread of its own.
    package func start() {
        runOnThread { self.serve() }
    }

    /// Ends everything: the clients see their connections end, and dial whoever listens then.
    package func stop() {
        let clients = state.withLock { state in
            state.stopped = true
            defer { state.clients = [:] }
            return Array(state.clients.values)
        }
        clients.forEach(end)
        _ = unlink(path)
        poke()
    }

    /// How many connections the clients have now.
    package var count: Int {
        state.withLock { $0.clients.values.count { if case .serving = $0.stage { true } else { false } } }
    }

    /// Ends every connection to a user's SMI, before it is frozen or ended; the clients dial again, so the resolver must
    /// not connect to that SMI from before this call until it runs again.
    ///
    /// Returns when smi-init has closed all of them (a millisecond), or after 50 ms: an SMI that does not answer is
    /// frozen or dead, and has to be stopped all the same.
    package func closeAll(_ user: String) async {
        await closeAll(user, at: resolver.endpoint(user))
    }

    /// `closeAll` for a caller that knows where smi-init listens; nil: not on this host.
    package func closeAll(_ user: String, at endpoint: InitEndpoint?) async {
        let ended = state.withLock { state in
            let found = state.clients.filter {
                if case .serving(user, _) = $0.value.stage { true } else { false }
            }
            for id in found.keys { state.clients[id] = nil }
            return Array(found.values)
        }
        ended.forEach(end)
        poke()
        guard let endpoint else { return }
        // Also ends what an earlier daemon gave away, and what a stopped command line holds on to.
        try? await offload { try InitConnection.quiesce(endpoint) }
    }

    // MARK: The serving thread

    private func serve() {
        while !state.withLock(\.stopped) {
            var waits = WaitSet()
            let isNew = waits.add(listener.raw, POLLIN)
            let woken = waits.add(wake.read.raw, POLLIN)
            let clients = state.withLock { $0.clients }
            let ready = clients.map { id, client in (id, client, waits.add(client.socket.raw, POLLIN)) }
            waits.wait(atMost: timeLeft(clients))
            if waits.isReady(woken) { drainWake() }
            for (id, client, index) in ready where waits.isReady(index) { handle(id, client) }
            dropSilent()
            if waits.isReady(isNew) { accept() }
        }
        listener.close()
    }

    private func timeLeft(_ clients: [UInt64: Client]) -> Duration? {
        let deadlines = clients.values.compactMap { client in
            if case .asking(let until) = client.stage { until } else { nil }
        }
        return deadlines.min().map { max($0 - .now, .zero) }
    }

    private func drainWake() {
        var bytes = [UInt8](repeating: 0, count: 64)
        _ = read(wake.read.raw, &bytes, bytes.count)
    }

    private func poke() {
        var byte: UInt8 = 1
        _ = write(wake.write.raw, &byte, 1)
    }

    private func accept() {
        while let socket = StreamSocket.accept(listener) {
            let user = (try? StreamSocket.peerUser(of: socket)) ?? .max
            guard user == 0 || user == geteuid() else { continue }
            state.withLock { state in
                guard state.clients.count < Self.maxClients, !state.stopped else { return }
                state.lastClient += 1
                state.clients[state.lastClient] = Client(
                    socket: socket,
                    stage: .asking(until: .now + Self.requestWithin)
                )
            }
        }
    }

    private func dropSilent() {
        let now = ContinuousClock.now
        state.withLock { state in
            state.clients = state.clients.filter {
                if case .asking(let until) = $0.value.stage { until > now } else { true }
            }
        }
    }

    /// A request, or the end of a client.
    private func handle(_ id: UInt64, _ client: Client) {
        var buffer = [UInt8](repeating: 0, count: BrokerWire.maxMessage)
        let received = buffer.withUnsafeMutableBytes { StreamSocket.receive(client.socket, into: $0) }
        switch (received, client.stage) {
        case (.wouldBlock, _): break
        case (.moved(let count), .asking):
            guard let user = BrokerWire.user(inRequest: Array(buffer[..<count])) else { return remove(id) }
            connect(id, client.socket, user)
        default: remove(id)
        }
    }

    private func remove(_ id: UInt64) {
        if let client = state.withLock({ $0.clients.removeValue(forKey: id) }) { end(client) }
    }

    private func end(_ client: Client) {
        switch client.stage {
        case .asking: break
        case .connecting(_, let task): task.cancel()
        case .serving(_, let stream):
            // For every process that has the connection: the client's own copy ends too.
            StreamSocket.shutdown(stream)
            stream.close()
        }
        client.socket.close()
    }

    // MARK: Connecting

    private func connect(_ id: UInt64, _ socket: Descriptor, _ user: String) {
        state.withLock { state in
            guard state.clients[id] != nil else { return }
            let task = Task { await self.answer(id, socket, user) }
            state.clients[id]?.stage = .connecting(user: user, task)
        }
    }

    private func answer(_ id: UInt64, _ socket: Descriptor, _ user: String) async {
        do {
            let stream = try await resolver.connect(user)
            grant(id, socket, user, stream)
        } catch let error as IsolationError {
            refuse(id, socket, error)
        } catch is CancellationError {
            remove(id)
        } catch {
            let failure = IsolationError(
                .sessionUnreachable,
                cause: "no connection to \(user)'s SMI: \(error)",
                remedy: "look at its state (smirun inspect \(user))"
            )
            refuse(id, socket, failure)
        }
    }

    private func grant(_ id: UInt64, _ socket: Descriptor, _ user: String, _ stream: Descriptor) {
        let isThere = state.withLock { state in
            guard state.clients[id] != nil else { return false }
            state.clients[id]?.stage = .serving(user: user, stream)
            return true
        }
        guard isThere else { return StreamSocket.shutdown(stream) }
        do {
            try DescriptorPassing.send(BrokerWire.granted, [stream], over: socket)
        } catch {
            remove(id)
        }
    }

    private func refuse(_ id: UInt64, _ socket: Descriptor, _ error: IsolationError) {
        try? DescriptorPassing.send(BrokerWire.refused(error), [], over: socket)
        remove(id)
    }
}
