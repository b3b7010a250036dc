import Foundation
import Isolation
import Mobility

extension HostAgent {
    /// Every SMI of the cluster as the store knows it.
    package func list() async throws -> [SMIView] {
        try await around.store.records(SMIRecord.self, prefix: SMIRecord.prefix).map { view(of: $0.record) }
    }

    /// One SMI of this host, with what only its owner knows.
    package func inspect(_ user: String) async throws -> SMIView {
        var view = view(of: try await ownedRecord(user))
        if let entry = try await around.store.get(ReplicaPlan.key(user)) {
            view.plan = ReplicaPlanView(try decode(ReplicaPlan.self, entry.value))
        }
        view.replicas = try await replicas(of: user)
        if view.state != SMIRecord.State.stopped.rawValue {
            view.pid = try? await around.sandboxes.processes(user).first { $0.pid == 1 }?.hostPid
        }
        return view
    }

    /// The processes of an SMI of this host.
    package func processes(_ user: String) async throws -> [ProcessView] {
        let record = try await ownedRecord(user)
        guard record.state == .running else { throw Self.stopped(user) }
        return try await around.sandboxes.processes(user).map {
            ProcessView(
                pid: $0.pid,
                ppid: $0.parent,
                hostPid: $0.hostPid,
                name: $0.name,
                command: $0.command,
                state: $0.state,
                rss: $0.rss
            )
        }
    }

    /// What in an SMI of this host could not be moved.
    package func diagnose(_ user: String) async throws -> [FindingView] {
        let record = try await ownedRecord(user)
        guard record.state == .running else { throw Self.stopped(user) }
        let blockers = try await around.sandboxes.preflight(user)
        if blockers.isEmpty {
            return [FindingView(level: "ok", what: user, finding: "every process can be moved", remedy: nil)]
        }
        return blockers.map {
            FindingView(
                level: "error",
                what: "process \($0.pid) (\($0.name))",
                finding: $0.reason,
                remedy: "end the process, or let it give that up, before a hand-off"
            )
        }
    }

    /// What this host has of an SMI, for a peer that asks how a hand-off ended.
    package func status(_ user: String) async throws -> PeerSMIStatus {
        let record = try await around.store.record(of: user)?.record
        return PeerSMIStatus(
            present: running[user] != nil || activity(user) != nil,
            generation: running[user] ?? record?.generation ?? 0,
            resumed: running[user] != nil,
            lacksPages: await around.memory?.isLacking(user) ?? false
        )
    }

    /// The users of an image, by its digest.
    package func users(ofImage digest: String) async throws -> [String] {
        try await around.store.records(SMIRecord.self, prefix: SMIRecord.prefix)
            .map(\.record).filter { $0.spec.image == digest }.map(\.user)
    }

    /// Every host of the cluster; those that do not answer within a second are down.
    package func hosts() async throws -> [HostView] {
        let records = try await around.store.records(HostRecord.self, prefix: HostRecord.prefix).map(\.record)
        let smis = try await around.store.records(SMIRecord.self, prefix: SMIRecord.prefix).map(\.record)
        let peers = around.peers
        let own = host
        return try await withThrowingTaskGroup(of: HostView.self) { group in
            for record in records {
                let users = smis.filter { $0.host == record.name }.map(\.user)
                group.addTask {
                    let pid =
                        record.name == own
                        ? currentProcess() : try? await peers.pid(of: record, timeout: .seconds(1))
                    return HostView(
                        name: record.name,
                        pid: pid,
                        state: pid == nil ? "down" : "ready",
                        addresses: [record.address, record.address6].compactMap { $0 },
                        smis: users
                    )
                }
            }
            var views: [HostView] = []
            for try await view in group { views.append(view) }
            return views.sorted { $0.name.compare($1.name, options: .numeric) == .orderedAscending }
        }
    }

    private func view(of record: SMIRecord) -> SMIView {
        var state = record.state.rawValue
        if record.host == host, let activity = activity(record.user) {
            state = activity == .leaving || activity == .arriving ? "moving" : activity.rawValue
        }
        return SMIView(
            user: record.user,
            host: record.host,
            generation: record.generation,
            state: state,
            addresses: AddressesView(record.spec.address),
            image: record.spec.image,
            imageName: record.imageName,
            program: record.spec.program,
            limits: LimitsView(
                memory: record.spec.limits.memory,
                cpus: record.spec.limits.cpus,
                pids: record.spec.limits.pids
            ),
            createdAt: record.createdAt,
            replicas: [],
            lastHandoff: record.lastHandoff,
            pid: nil,
            wholeCopy: record.wholeCopy
        )
    }
}

/// pid of this process.
package func currentProcess() -> Int32 {
    ProcessInfo.processInfo.processIdentifier
}
