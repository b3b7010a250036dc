import Foundation
import LinuxSystem

/// What `lab down` did.
package struct LabTeardown: Codable, Sendable, Equatable {
    /// Whether there was anything to remove.
    package var found: Bool
    /// Number of processes ended.
    package var processes: Int
}

extension Lab {
    /// Removes the lab, whatever state it is in, and leaves nothing of it but the images.
    ///
    /// Ends only processes in the lab's cgroups.
    package func down() throws(LabError) -> LabTeardown {
        try exclusively { lock throws(LabError) in
            let report = try takeDown(keepingLogs: false)
            lock.removeFile()
            // The state directory goes too when the lock's file was all that was in it.
            rmdir(layout.state)
            return report
        }
    }

    /// Everything but the lock.
    func takeDown(keepingLogs: Bool) throws(LabError) -> LabTeardown {
        if tree.contains(getpid()) {
            throw LabError(
                .busy,
                cause: "this command itself runs inside the lab",
                remedy: "run `smirun lab down` outside of it"
            )
        }
        let record = LabRecord.load(layout)
        let found = tree.exists || access(layout.directory, F_OK) == 0
        let ended = try endProcesses()
        // A daemon that died while a machine was frozen left it on.
        for host in record?.hosts ?? [] {
            Urgency.putBack(notedAt: layout.files(of: host.name).state + "/" + Urgency.noteName)
        }
        record.map(reap)
        try removeCgroups()
        unmountAll()
        unlinkSockets()
        if !keepingLogs { try removeDirectories(record) }
        return LabTeardown(found: found, processes: ended)
    }

    private func endProcesses() throws(LabError) -> Int {
        let tree = tree
        let count = tree.processes().count
        if count > 0 { progress("ending \(count) processes") }
        let left = tree.endProcesses(before: .now + .seconds(10))
        guard let first = left.first else { return count }
        let name = ProcessStat(pid: first.pid)?.name ?? "?"
        throw LabError(
            .notRemoved,
            cause: "process \(first.pid) (\(name), state \(first.state.map(String.init) ?? "?")) does not end",
            remedy: "it waits in the kernel; run `smirun lab down` again once it has ended"
        )
    }

    /// Ends all that runs on a host.
    func end(_ host: LabHost) throws(LabError) {
        let cgroup = CgroupTree(layout.cgroup(of: host.name))
        let left = cgroup.endProcesses(before: .now + .seconds(10))
        if let holder = host.holder { waitpid(holder.pid, nil, WNOHANG) }
        // Not only to be tidy: what is started into a cgroup that cgroup.kill was written to is killed at birth (Linux
        // 6.18).
        guard left.isEmpty, cgroup.remove(before: .now + .seconds(5)).isEmpty else {
            let what = left.first.map { "process \($0.pid)" } ?? "a cgroup"
            throw LabError(
                .notRemoved,
                cause: "\(what) of \(host.name) does not go away",
                remedy: "it waits in the kernel; try again"
            )
        }
    }

    /// Reaps those of the lab's processes that this very process started.
    private func reap(_ record: LabRecord) {
        let supervisor = RecordFile.load(SupervisorRecord.self, from: layout.supervisorRecord)?.process
        let processes = record.hosts.map(\.holder) + [record.fabric, supervisor]
        for process in processes { process.map { _ = waitpid($0.pid, nil, WNOHANG) } }
    }

    private func removeCgroups() throws(LabError) {
        let left = tree.remove(before: .now + .seconds(5))
        guard let first = left.first else { return }
        throw LabError(
            .notRemoved,
            cause: "cgroup \(first) cannot be removed",
            remedy: "see what is in its cgroup.procs, then run `smirun lab down` again"
        )
    }

    /// The lab mounts nothing in the machine's own namespace; whoever did below its directory must not keep it from
    /// going.
    private func unmountAll() {
        let table = (try? FileContents.string(of: "/proc/self/mountinfo")) ?? ""
        let points = table.split(separator: "\n").compactMap { line in
            line.split(separator: " ").dropFirst(4).first.map(String.init)
        }
        for point in points.reversed() where point.hasPrefix(layout.directory + "/") {
            umount2(point, Int32(MNT_DETACH))
        }
    }

    private func removeDirectories(_ record: LabRecord?) throws(LabError) {
        let result = try during("removing \(layout.directory)") { () throws(SyscallError) in
            try HelperCommand(["rm", "-rf", "--one-file-system", "--", layout.directory]).run(timeout: .seconds(120))
        }
        guard result.status == 0, !result.timedOut else {
            throw LabError(
                .notRemoved,
                cause: "\(layout.directory) cannot be removed: \(result.error.trimmed.tail(lines: 2))",
                remedy: "remove it by hand"
            )
        }
        // Empty ones only: images and what others put there stay.
        let made = record?.created ?? [layout.images, layout.run, layout.configuration]
        for directory in made.reversed() { rmdir(directory) }
    }
}
