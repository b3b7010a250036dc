import LinuxSystem

/// The lab as `smirun lab status` shows it.
package struct LabStatus: Codable, Sendable, Equatable {
    /// One host.
    package struct Host: Codable, Sendable, Equatable {
        package var name: String
        /// `running`, `starting`, `stopped` (by a signal), `backing-off` (its daemon keeps dying) or `down`.
        package var state: String
        package var addresses: [String]
        /// pid of the process that keeps the host's namespaces; nil once the host was killed.
        package var holder: Int32?
        /// pid of the daemon; nil while it does not run.
        package var daemon: Int32?
        /// How many times its daemon was started again.
        package var restarts: Int
        /// Rate of its link, each way: `50mbit`, `none`.
        package var rate: String
        /// Milliseconds, one way.
        package var delay: Double
        /// Whether its link drops everything.
        package var cut: Bool
        package var accessPoint: String
        /// Paths by which this machine reaches the host's sockets; empty once the host was killed.
        package var sockets: [String]
        /// What its daemon prints.
        package var log: String

        enum CodingKeys: String, CodingKey {
            case name, state, addresses, holder, daemon, restarts, rate, cut, sockets, log
            case delay = "delay_ms"
            case accessPoint = "ap"
        }
    }

    /// `up`, `starting`, `degraded` (something of it does not run), `failed` (its logs are left) or `down`.
    package var state: String
    /// pid of the supervisor; nil if it was killed: `lab up` starts another.
    package var supervisor: Int32?
    package var hosts: [Host]
}

extension Lab {
    /// The lab's state; asks no daemon, and works while another command changes the lab.
    package func status() -> LabStatus {
        guard let record = LabRecord.load(layout), record.isOfThisBoot else {
            return LabStatus(state: tree.exists ? "degraded" : "down", supervisor: nil, hosts: [])
        }
        if record.phase == .failed { return LabStatus(state: "failed", supervisor: nil, hosts: []) }
        let supervised = RecordFile.load(SupervisorRecord.self, from: layout.supervisorRecord)
        let supervisor = supervised?.process.flatMap { $0.isAlive ? $0.pid : nil }
        let hosts = record.hosts.map { status(of: $0, record, supervised?.daemons[$0.name]) }
        let isWhole = supervisor != nil && hosts.allSatisfy { $0.state == "running" }
        let state = record.phase == .starting ? "starting" : isWhole ? "up" : "degraded"
        return LabStatus(state: state, supervisor: supervisor, hosts: hosts)
    }

    private func status(
        of host: LabHost,
        _ record: LabRecord,
        _ daemon: SupervisorRecord.Service?
    ) -> LabStatus.Host {
        let holder = host.isAlive ? host.holder : nil
        let process = daemon?.process.flatMap { $0.isAlive ? $0 : nil }
        return LabStatus.Host(
            name: host.name,
            state: state(holder, process, daemon),
            addresses: [host.address, host.address6],
            holder: holder?.pid,
            daemon: process?.pid,
            restarts: max(0, (daemon?.starts ?? 0) - 1),
            rate: host.rate.description,
            delay: record.plan.delay,
            cut: host.isCut,
            accessPoint: host.accessPoint,
            sockets: holder.map { holder in LabLayout.sockets.map { layout.reach($0, holder: holder.pid) } } ?? [],
            log: layout.files(of: host.name).log
        )
    }

    private func state(
        _ holder: ProcessIdentity?,
        _ process: ProcessIdentity?,
        _ daemon: SupervisorRecord.Service?
    ) -> String {
        if holder == nil { return "down" }
        if let process { return process.state.map { $0 == "T" || $0 == "t" } ?? false ? "stopped" : "running" }
        return daemon?.state == .backingOff ? "backing-off" : "starting"
    }
}
