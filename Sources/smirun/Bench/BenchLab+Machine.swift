import Foundation
import Orchestrator

extension BenchLab {
    /// Launches a program with so many bytes of memory on the first host; it is asked from another.
    func launch(
        _ user: String,
        size: Int64,
        _ arguments: [String],
        askedFrom host: LabStatus.Host
    ) async throws -> Workload.Place {
        let request = LaunchRequest(
            user: user,
            image: BenchImage.name,
            host: hosts[0].name,
            limits: (memory: size + size / 8 + (256 << 20), cpus: 2, pids: 1024),
            program: [BenchImage.program] + arguments
        )
        let launched = try await daemon.call(.launch, request, as: LaunchReply.self)
        return Workload.Place(network: try network(host), address: launched.addresses.ipv4)
    }

    /// How far the replica of a user's machine on a host is; nil where there is none.
    func replica(of user: String, on host: String) async throws -> ReplicaView? {
        let replicas = try await daemon.call(.replicas, UserRequest(user: user), as: [ReplicaView].self)
        return replicas.first { $0.host == host }
    }

    /// Has a replica kept on a host, and waits, with a limit, until it is up to date: but for `restless` bytes at most,
    /// those that the program writes again and again.
    func awaitReplica(of user: String, on host: String, restless: Int64, limit: Duration) async throws {
        let deadline = ContinuousClock.now + limit
        var isNamed = false
        while ContinuousClock.now < deadline {
            if let replica = try await replica(of: user, on: host) {
                // An epoch of a live round is whole when much has still to be sent: only what is always written may be left.
                let isNear = replica.epochsBehind <= 1 && replica.bytesBehind <= restless
                if replica.connected, replica.epoch > 0, isNear { return }
            } else if !isNamed {
                isNamed = true
                let request = ReplicaRequest(user: user, host: host)
                _ = try await daemon.call(.addReplica, request, as: Nothing.self)
            }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw OrchestratorError(
            .handoffFailed,
            cause: "the replica on \(host) is not up to date within \(limit)",
            remedy: "look at the daemons' logs; a faster --rate may help"
        )
    }

    /// Moves it to a host, and leaves no replica behind.
    func move(_ user: String, from: String, to: String) async throws {
        let request = HandoffRequest(user: user, to: to)
        _ = try await daemon.stream(.handoff, request, as: HandoffProgress.self) { $0.report }
        // The host that it has left becomes a replica once all memory is across.
        let deadline = ContinuousClock.now + .seconds(30)
        while try await replica(of: user, on: from) == nil {
            guard ContinuousClock.now < deadline else {
                throw OrchestratorError(
                    .handoffFailed,
                    cause: "\(from) has not become a replica within 30 s",
                    remedy: "look at the daemons' logs"
                )
            }
            try await Task.sleep(for: .milliseconds(50))
        }
        try await removeReplica(of: user, on: from)
    }

    /// Has no replica kept on a host any more.
    func removeReplica(of user: String, on host: String) async throws {
        _ = try await daemon.call(.removeReplica, ReplicaRequest(user: user, host: host), as: Nothing.self)
    }
}
