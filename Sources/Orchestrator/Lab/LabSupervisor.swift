import Foundation
import LinuxSystem
import Logging

/// Runs the hosts' daemons: starts them, sees them end (pidfd), starts them again. One process, `smirun lab supervise`,
/// outside every host; it may itself be killed at any time: the daemons go on, and the next supervisor adopts them.
package final class LabSupervisor {
    private let layout: LabLayout
    private let lock: FileLock
    private let log: Logger
    private let wakeUps: Descriptor
    private var lab: LabRecord
    private var state: SupervisorRecord
    private var running: [String: Watched] = [:]
    private var postponed: [String: ContinuousClock.Instant] = [:]

    /// A daemon that runs: a child of ours, or one adopted.
    private struct Watched {
        let handle: ProcessHandle
        let child: ChildProcess?
        let since: ContinuousClock.Instant
    }

    /// A daemon that ended by itself within this time is taken to have died at once.
    static let shortLife = Duration.seconds(3)
    /// The same for one that was killed, which whoever tries a daemon's death does many times in a row.
    static let shortLifeOfKilled = Duration.milliseconds(300)
    static let longestPause = Duration.seconds(10)

    /// Takes over the lab's daemons. Nil when another supervisor runs them already.
    package init?(layout: LabLayout, log: Logger) throws(LabError) {
        guard let lab = LabRecord.load(layout) else { throw LabError.notUp }
        let lock = try during("taking the supervisor's lock") { () throws(SyscallError) in
            // The one before may just be ending.
            try FileLock.take(layout.supervisorLock, before: .now + .seconds(2))
        }
        guard let lock else { return nil }
        self.layout = layout
        self.lock = lock
        self.log = log
        self.lab = lab
        self.wakeUps = try during("opening the supervisor's wake-up pipe") { () throws(SyscallError) in
            try WakeUp.listen(layout.supervisorPipe)
        }
        self.state = RecordFile.load(SupervisorRecord.self, from: layout.supervisorRecord) ?? SupervisorRecord()
        self.state.process = ProcessIdentity(pid: getpid())
    }

    /// Runs until the lab is gone.
    package func run() throws(LabError) {
        adopt()
        while true {
            startWhatIsWanted()
            state.revision = lab.revision
            try RecordFile.store(state, at: layout.supervisorRecord)
            waitForNews()
            guard let next = LabRecord.load(layout) else { return }
            lab = next
        }
    }

    /// Watches the daemons that an earlier supervisor left running.
    private func adopt() {
        for host in lab.hosts {
            let cgroup = CgroupTree(layout.cgroup(of: host.name) + "/daemon")
            guard let process = daemonProcess(of: host, in: cgroup), let handle = process.handle else { continue }
            running[host.name] = Watched(handle: handle, child: nil, since: .now)
            state.daemons[host.name, default: .init(state: .running)].state = .running
            state.daemons[host.name]?.process = process
            log.info("daemon adopted", metadata: ["host": "\(host.name)", "pid": "\(process.pid)"])
        }
    }

    /// The daemon that the record names, or else the one in the host's cgroup: a supervisor that was killed between the
    /// start and the record left only that.
    private func daemonProcess(of host: LabHost, in cgroup: CgroupTree) -> ProcessIdentity? {
        if let known = state.daemons[host.name]?.process, known.isAlive { return known }
        let command = [lab.binary, "daemon"]
        return cgroup.processes().compactMap { ProcessIdentity(pid: $0) }.first { process in
            let line = (try? FileContents.string(of: "/proc/\(process.pid)/cmdline")) ?? ""
            let words = line.split(separator: "\0").map(String.init)
            return words.starts(with: command) || words.dropFirst().starts(with: command)
        }
    }

    private func startWhatIsWanted() {
        for host in lab.hosts where host.wantsDaemon && running[host.name] == nil {
            guard host.isAlive else {
                state.daemons[host.name, default: .init(state: .hostDown)].state = .hostDown
                state.daemons[host.name]?.process = nil
                postponed[host.name] = nil
                continue
            }
            if let due = postponed[host.name], due > .now { continue }
            postponed[host.name] = nil
            start(host)
        }
    }

    private func start(_ host: LabHost) {
        var daemon = state.daemons[host.name] ?? .init(state: .running, restarts: -1)
        daemon.restarts += 1
        do {
            let child = try command(for: host).start(output(of: host))
            daemon.process = ProcessIdentity(pid: child.pid)
            daemon.state = .running
            if let handle = try ProcessHandle(pid: child.pid) {
                running[host.name] = Watched(handle: handle, child: child, since: .now)
            }
            log.info("daemon started", metadata: ["host": "\(host.name)", "pid": "\(child.pid)"])
        } catch {
            log.error("daemon not started", metadata: ["host": "\(host.name)", "error": "\(error)"])
            daemon.failures += 1
            daemon.state = .backingOff
            postponed[host.name] = .now + Self.pause(after: daemon.failures)
        }
        state.daemons[host.name] = daemon
    }

    private func command(for host: LabHost) throws(SyscallError) -> HelperCommand {
        var command = HelperCommand([lab.binary, "daemon", "--config", layout.configurationFile])
        command.environment = lab.environment
        command.directory = "/"
        command.newSession = true
        command.namespacesOf = host.holder?.pid
        let cgroup = CgroupTree(layout.cgroup(of: host.name) + "/daemon")
        try cgroup.create()
        command.cgroup = cgroup
        return command
    }

    private func output(of host: LabHost) throws(SyscallError) -> [Int32: Descriptor] {
        let log = try Descriptor(open: layout.files(of: host.name).log, O_WRONLY | O_CREAT | O_APPEND)
        return [1: log, 2: log]
    }

    /// Waits for a daemon's end, a wake-up, or the time to start one again.
    private func waitForNews() {
        let watched = Array(running)
        var files = [pollfd(fd: wakeUps.raw, events: Int16(POLLIN), revents: 0)]
        files += watched.map { pollfd(fd: $0.value.handle.pidfd.raw, events: Int16(POLLIN), revents: 0) }
        let timeout = postponed.values.min().map(\.millisecondsLeft) ?? -1
        guard poll(&files, nfds_t(files.count), timeout) > 0 else { return }
        if files[0].revents != 0 { WakeUp.drain(wakeUps) }
        for (file, (host, daemon)) in zip(files.dropFirst(), watched) where file.revents != 0 {
            ended(host, daemon)
        }
    }

    private func ended(_ host: String, _ daemon: Watched) {
        running[host] = nil
        let status = (try? daemon.child?.wait())?.code
        var entry = state.daemons[host] ?? .init(state: .running)
        entry.process = nil
        entry.lastExit = status
        let short = status == 128 + SIGKILL ? Self.shortLifeOfKilled : Self.shortLife
        entry.failures = daemon.since.duration(to: .now) < short ? entry.failures + 1 : 0
        let pause = Self.pause(after: entry.failures)
        if pause > .zero {
            entry.state = .backingOff
            postponed[host] = .now + pause
        }
        state.daemons[host] = entry
        let data: Logger.Metadata = [
            "host": "\(host)", "status": "\(status.map(String.init) ?? "unknown")", "pause": "\(pause)",
        ]
        log.warning("daemon ended", metadata: data)
    }

    /// How long to wait before the next start, after so many early deaths in a row; the first is forgiven.
    static func pause(after failures: Int) -> Duration {
        guard failures > 1 else { return .zero }
        return min(.milliseconds(100 << min(failures - 2, 10)), longestPause)
    }
}
