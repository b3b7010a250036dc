import Glibc

extension CgroupTree {
    /// Ends every process in the cgroup and below it, whatever state they are in: stopped, frozen or traced.
    ///
    /// Event-driven: waits on the processes' pidfds. Returns those that had not ended at the deadline (in an
    /// uninterruptible system call).
    package func endProcesses(before deadline: ContinuousClock.Instant) -> [ProcessIdentity] {
        thaw()
        repeat {
            if let unified { try? FileContents.write("1", to: unified + "/cgroup.kill") }
            // What is left is in a version 1 cgroup only, on its way out, or was forked meanwhile.
            let rest = processes().compactMap { ProcessIdentity(pid: $0) }
            if rest.isEmpty { return [] }
            for process in rest where contains(process.pid) { process.signal(SIGKILL) }
            for process in rest where !process.waitUntilGone(before: deadline) { break }
        } while ContinuousClock.now < deadline
        return processes().compactMap { ProcessIdentity(pid: $0) }
    }

    /// A task frozen by a version 1 freezer does not see the signal that ends it; one frozen by version 2 does.
    private func thaw() {
        for hierarchy in hierarchies where hierarchy.controllers.contains("freezer") {
            for directory in Self.subtree(hierarchy.mount + path) {
                try? FileContents.write("THAWED", to: directory + "/freezer.state")
            }
        }
    }

    /// Removes the cgroup and all below it.
    ///
    /// A cgroup whose last process is just ending is busy for a moment: it is tried again until the deadline. Returns
    /// the directories that are left.
    package func remove(before deadline: ContinuousClock.Instant) -> [String] {
        var left: [String] = []
        repeat {
            left = directories.flatMap { Self.subtree($0).reversed() }.filter { rmdir($0) != 0 && errno != ENOENT }
            if left.isEmpty { return [] }
            waitForChange(deadline)
        } while ContinuousClock.now < deadline
        return left
    }

    /// Waits for the version 2 cgroup to say that it became empty (cgroup.events), at most 5 ms, as version 1 says
    /// nothing.
    private func waitForChange(_ deadline: ContinuousClock.Instant) {
        let events = unified.flatMap { try? Descriptor(open: $0 + "/cgroup.events", O_RDONLY) }
        var file = pollfd(fd: events?.raw ?? -1, events: Int16(POLLPRI), revents: 0)
        poll(&file, 1, 5)
    }
}
