import Foundation
import LinuxSystem
import Logging

/// Runs the hosts' daemons, and what delays their links: starts them, sees them end (pidfd), starts them again.
///
/// One process, `smirun lab supervise`, outside every host; it may itself be killed at any time: the daemons go on, and
/// the next supervisor adopts them.
package final class LabSupervisor {
    private let layout: LabLayout
    private let lock: FileLock
    private let log: Logger
    private let wakeUps: Descriptor
    private var lab: LabRecord
    private var state: SupervisorRecord
    private var running: [SupervisedTask: Watched] = [:]
    private var postponed: [SupervisedTask: ContinuousClock.Instant] = [:]

    /// A process that runs: a child of ours, or one adopted.
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

    /// Takes over the lab's daemons.
    ///
    /// Nil when another supervisor runs them already.
    package init?(layout: LabLayout, log: Logger) throws(LabError) {
        let lock = try during("taking the supervisor's lock") { () throws(SyscallError) in
            // The one before may just be ending.
            try FileLock.take(layout.supervisorLock, before: .now + .seconds(2))
        }
        guard let lock else { return nil }
        self.layout = layout
        self.lock = lock
        self.log = log
        self.wakeUps = try during("opening the supervisor's wake-up pipe") { () throws(SyscallError) in
            try WakeUp.listen(layout.supervisorPipe)
        }
        // Only now: a change made before the pipe was there is in the record, a later one comes with a wake-up.
        guard let lab = LabRecord.load(layout) else { throw LabError.notUp }
        self.lab = lab
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

    /// Watches what an earlier supervisor left running.
    private func adopt() {
        for host in lab.hosts {
            for task in tasks(of: host) {
                guard let process = leftRunning(task), let handle = process.handle else { continue }
                running[task] = Watched(handle: handle, child: nil, since: .now)
                state[task].state = .running
                state[task].process = process
                log.info("adopted", metadata: metadata(task, ["pid": "\(process.pid)"]))
            }
        }
    }

    /// What is to run for a host.
    ///
    /// Its link does so from the start, as the host joins the cluster over it.
    private func tasks(of host: LabHost) -> [SupervisedTask] {
        if host.isOff { return [] }
        let link = lab.plan.delay > 0 ? [SupervisedTask(host: host.name, role: .link)] : []
        return link + (host.wantsDaemon ? [SupervisedTask(host: host.name, role: .daemon)] : [])
    }

    /// The process that the record names, or else the one in the task's cgroup: a supervisor that was killed between
    /// the start and the record left only that.
    private func leftRunning(_ task: SupervisedTask) -> ProcessIdentity? {
        if let known = state[task].process, known.isAlive { return known }
        let command = task.role == .daemon ? [lab.binary, "daemon"] : [lab.supervisor, "lab", "delay-link"]
        return cgroup(task).processes().compactMap { ProcessIdentity(pid: $0) }.first { process in
            let line = (try? FileContents.string(of: "/proc/\(process.pid)/cmdline")) ?? ""
            let words = line.split(separator: "\0").map(String.init)
            // A script has its interpreter in front.
            return words.starts(with: command) || words.dropFirst().starts(with: command)
        }
    }

    private func startWhatIsWanted() {
        for host in lab.hosts {
            for task in tasks(of: host) where running[task] == nil {
                guard host.isAlive else {
                    state[task].state = .hostDown
                    state[task].process = nil
                    postponed[task] = nil
                    continue
                }
                if let due = postponed[task], due > .now { continue }
                postponed[task] = nil
                start(task, host)
            }
        }
    }

    private func start(_ task: SupervisedTask, _ host: LabHost) {
        do {
            let child = try command(task, host).start(output(of: host))
            state[task].process = ProcessIdentity(pid: child.pid)
            state[task].state = .running
            state[task].starts += 1
            if let handle = try ProcessHandle(pid: child.pid) {
                running[task] = Watched(handle: handle, child: child, since: .now)
            }
            log.info("started", metadata: metadata(task, ["pid": "\(child.pid)"]))
        } catch {
            log.error("not started", metadata: metadata(task, ["error": "\(error)"]))
            postpone(task, failures: state[task].failures + 1)
        }
    }

    private func command(_ task: SupervisedTask, _ host: LabHost) throws(SyscallError) -> HelperCommand {
        var command: HelperCommand
        switch task.role {
        case .daemon:
            command = HelperCommand([lab.binary, "daemon", "--config", layout.configurationFile])
            command.namespacesOf = host.holder?.pid
        case .link:
            command = HelperCommand([lab.supervisor, "lab", "delay-link", host.name] + layout.arguments)
        }
        command.environment = lab.environment
        command.directory = "/"
        command.newSession = true
        let cgroup = cgroup(task)
        try cgroup.create()
        command.cgroup = cgroup
        return command
    }

    private func cgroup(_ task: SupervisedTask) -> CgroupTree {
        CgroupTree(layout.cgroup(of: task.host) + "/" + task.role.rawValue)
    }

    private func output(of host: LabHost) throws(SyscallError) -> [Int32: Descriptor] {
        let log = try Descriptor(open: layout.files(of: host.name).log, O_WRONLY | O_CREAT | O_APPEND)
        return [1: log, 2: log]
    }

    /// Waits for the end of a process, a wake-up, or the time to start one again.
    private func waitForNews() {
        let watched = Array(running)
        var files = [pollfd(fd: wakeUps.raw, events: Int16(POLLIN), revents: 0)]
        files += watched.map { pollfd(fd: $0.value.handle.pidfd.raw, events: Int16(POLLIN), revents: 0) }
        let timeout = postponed.values.min().map(\.millisecondsLeft) ?? -1
        guard poll(&files, nfds_t(files.count), timeout) > 0 else { return }
        if files[0].revents != 0 { WakeUp.drain(wakeUps) }
        for (file, (task, process)) in zip(files.dropFirst(), watched) where file.revents != 0 {
            ended(task, process)
        }
    }

    private func ended(_ task: SupervisedTask, _ process: Watched) {
        running[task] = nil
        let status = (try? process.child?.wait())?.code
        state[task].process = nil
        state[task].lastExit = status
        let short = status == 128 + SIGKILL ? Self.shortLifeOfKilled : Self.shortLife
        postpone(task, failures: process.since.duration(to: .now) < short ? state[task].failures + 1 : 0)
        log.warning("ended", metadata: metadata(task, ["status": "\(status.map(String.init) ?? "unknown")"]))
    }

    private func postpone(_ task: SupervisedTask, failures: Int) {
        state[task].failures = failures
        let pause = Self.pause(after: failures)
        guard pause > .zero else { return }
        state[task].state = .backingOff
        postponed[task] = .now + pause
    }

    private func metadata(_ task: SupervisedTask, _ more: Logger.Metadata) -> Logger.Metadata {
        more.merging(["host": "\(task.host)", "task": "\(task.role)"]) { first, _ in first }
    }

    /// How long to wait before the next start, after so many early deaths in a row; the first is forgiven.
    static func pause(after failures: Int) -> Duration {
        guard failures > 1 else { return .zero }
        return min(.milliseconds(100 << min(failures - 2, 10)), longestPause)
    }
}
