import Foundation
import LinuxSystem

/// What may happen to real hosts and links, on purpose.
extension Lab {
    /// Drops everything on a host's link, both ways and silently, until `restore`.
    package func cut(_ host: String) throws(LabError) {
        try change(host) { host, fabric throws(LabError) in
            try fabric.cut(host)
            host.isCut = true
        }
    }

    /// Ends a `cut`.
    package func restore(_ host: String) throws(LabError) {
        try change(host) { host, fabric throws(LabError) in
            try fabric.restore(host)
            host.isCut = false
        }
    }

    /// Changes the rate of a host's link, each way.
    package func setRate(_ host: String, _ rate: LinkRate) throws(LabError) {
        try change(host) { host, fabric throws(LabError) in
            host.rate = rate
            try fabric.shape([host])
        }
    }

    /// Kills a host's daemon (SIGKILL) and returns its pid; the supervisor starts another.
    @discardableResult
    package func kill(_ host: String) throws(LabError) -> Int32 {
        try signal(host, SIGKILL)
    }

    /// Sends a signal to a host's daemon and returns its pid.
    @discardableResult
    package func signal(_ host: String, _ number: Int32) throws(LabError) -> Int32 {
        try requireRoot()
        _ = try record().host(host)
        let supervised = RecordFile.load(SupervisorRecord.self, from: layout.supervisorRecord)
        guard let process = supervised?.daemons[host]?.process, process.isAlive else {
            throw LabError(
                .hostDown,
                cause: "the daemon of \(host) does not run",
                remedy: "`smirun lab status` says why"
            )
        }
        process.signal(number)
        return process.pid
    }

    /// Kills all that runs on a host at once, as a power cut does: its daemon, its SMIs, its namespaces with their
    /// links and their /run.
    ///
    /// Its state directory stays; `up` starts it again.
    package func killHost(_ host: String) throws(LabError) {
        try exclusively { _ throws(LabError) in
            var record = try record()
            let target = try record.host(host)
            let index = target.index - 1
            record.hosts[index].isOff = true
            record.revision += 1
            try RecordFile.store(record, at: layout.record)
            // A supervisor that does not know yet would start a daemon in what is being killed.
            awaitSupervisor(revision: record.revision)
            try end(target)
            if let fabric = record.fabric, fabric.isAlive {
                try LabFabric(fabric: fabric, isDelayed: record.plan.delay > 0).disconnect(target)
            }
        }
    }

    /// Waits until the supervisor has acted on a record, or it is clear that none will.
    func awaitSupervisor(revision: Int) {
        let deadline = ContinuousClock.now + .seconds(5)
        guard WakeUp.send(layout.supervisorPipe) else { return }
        while ContinuousClock.now < deadline {
            let supervised = RecordFile.load(SupervisorRecord.self, from: layout.supervisorRecord)
            guard let supervised, supervised.process?.isAlive ?? false, supervised.revision < revision else { return }
            poll(nil, 0, 5)
        }
    }

    private func change(
        _ name: String,
        _ body: (inout LabHost, LabFabric) throws(LabError) -> Void
    ) throws(LabError) {
        try exclusively { _ throws(LabError) in
            var record = try record()
            var host = try record.host(name)
            guard let fabric = record.fabric, fabric.isAlive, host.isAlive else {
                throw LabError(.hostDown, cause: "\(name) is down", remedy: "run `smirun lab up` again")
            }
            try body(&host, LabFabric(fabric: fabric, isDelayed: record.plan.delay > 0))
            record.hosts[host.index - 1] = host
            try RecordFile.store(record, at: layout.record)
        }
    }
}
