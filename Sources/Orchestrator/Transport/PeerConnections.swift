/// The connections of one daemon to the others: at most one to each host, made when first needed, kept while it
/// lasts, made again after it broke.
package actor PeerConnections {
    private struct Slot {
        var address: PeerAddress
        var opening: Task<PeerConnection, any Error>
        var id: Int
    }

    private let identity: HostIdentity
    private let own: Greeting
    private let limits: ConnectionLimits
    private var slots: [String: Slot] = [:]
    private var nextID = 0
    private var isClosed = false

    /// Nothing is connected until the first request.
    package init(identity: HostIdentity, build: String, limits: ConnectionLimits = ConnectionLimits()) {
        self.init(
            identity: identity,
            greeting: Greeting(host: identity.host, build: build, cluster: identity.cluster),
            limits: limits
        )
    }

    /// As above with a greeting of one's own, for another protocol version.
    package init(identity: HostIdentity, greeting: Greeting, limits: ConnectionLimits = ConnectionLimits()) {
        self.identity = identity
        self.own = greeting
        self.limits = limits
    }

    /// The connection to a host; callers that come while it is being made share the attempt.
    ///
    /// - Throws: `OrchestratorError`: `hostDown` where it cannot be reached or is not the host that was asked for,
    ///   `version` where the protocols have no version in common.
    package func connection(to host: String, at address: PeerAddress) async throws(OrchestratorError) -> PeerConnection
    {
        guard !isClosed else {
            throw OrchestratorError(.hostDown, cause: "this daemon is stopping", remedy: "start it again")
        }
        let slot = slots[host].flatMap { $0.address == address ? $0 : nil } ?? open(host, at: address)
        do {
            let connection = try await Self.opened(slot.opening)
            if !connection.isBroken { return connection }
        } catch {
            forget(host, slot.id)
            throw OrchestratorError(error, calling: "host \(host)")
        }
        // It broke since it was made: one more attempt, whose failure is the answer.
        forget(host, slot.id)
        guard !isClosed else {
            throw OrchestratorError(.hostDown, cause: "this daemon is stopping", remedy: "start it again")
        }
        let again = slots[host].flatMap { $0.address == address ? $0 : nil } ?? open(host, at: address)
        do {
            return try await Self.opened(again.opening)
        } catch {
            forget(host, again.id)
            throw OrchestratorError(error, calling: "host \(host)")
        }
    }

    /// The peer service of a host.
    package func client(
        _ host: String,
        at address: PeerAddress
    ) async throws(OrchestratorError) -> Smirun_V1_Peer.Client<ClusterTransport> {
        try await connection(to: host, at: address).peer
    }

    /// Ends the connection to a host, because it left the cluster or moved.
    package func disconnect(_ host: String, grace: Duration = .seconds(1)) async {
        guard let slot = slots.removeValue(forKey: host) else { return }
        try? await slot.opening.value.close(grace: grace)
    }

    /// Ends all connections; further requests fail.
    package func close(grace: Duration = .seconds(1)) async {
        isClosed = true
        let ending = slots.values
        slots = [:]
        await withTaskGroup(of: Void.self) { group in
            for slot in ending {
                group.addTask { try? await slot.opening.value.close(grace: grace) }
            }
        }
    }

    private func open(_ host: String, at address: PeerAddress) -> Slot {
        nextID += 1
        let slot = Slot(
            address: address,
            opening: Task { [own, identity, limits] in
                try await PeerConnection.open(host, at: address, as: own, identity: identity, limits: limits)
            },
            id: nextID
        )
        slots[host] = slot
        return slot
    }

    /// Waits for a connection as long as the caller does; others may go on waiting for it.
    private static func opened(_ opening: Task<PeerConnection, any Error>) async throws -> PeerConnection {
        let first = FirstResult<PeerConnection>()
        Task { first.resolve((await opening.result).mapError { OrchestratorError(wrapping: $0) }) }
        return try await first.value()
    }

    private func forget(_ host: String, _ id: Int) {
        if slots[host]?.id == id { slots[host] = nil }
    }
}
