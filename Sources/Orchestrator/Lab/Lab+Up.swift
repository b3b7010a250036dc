import Foundation
import LinuxSystem

extension Lab {
    /// Makes the lab and returns when all of its daemons answer.
    ///
    /// A lab that is up already and has the same plan is brought back to it: hosts that were killed are made again, a
    /// supervisor that was killed is replaced.
    ///
    /// - Throws: `alreadyUp` when a lab with another plan is up. On any failure nothing runs any more; the logs are
    ///   kept.
    package func up(_ plan: LabPlan) throws(LabError) -> LabStatus {
        try exclusively { _ throws(LabError) in
            try requireTools(plan)
            if let record = LabRecord.load(layout), record.phase == .up, record.isOfThisBoot, tree.exists {
                try requireSame(record, plan)
                progress("the lab is up already: \(plan.summary)")
                try bringUp(record)
            } else {
                if tree.exists || LabRecord.load(layout) != nil { progress("removing what an earlier lab left") }
                _ = try takeDown(keepingLogs: false)
                try requireFreeSockets()
                try bringUp(try prepare(plan))
            }
            return status()
        }
    }

    private func requireSame(_ record: LabRecord, _ plan: LabPlan) throws(LabError) {
        guard record.plan == plan, record.binary == binary else {
            let program = record.binary == binary ? "" : ", running \(record.binary)"
            throw LabError(
                .alreadyUp,
                cause: "a lab is up with \(record.plan.summary)\(program)",
                remedy: "run `smirun lab down` first, or `smirun lab up` with the same arguments"
            )
        }
    }

    /// Directories, configuration and the record of a lab that is to be made.
    private func prepare(_ plan: LabPlan) throws(LabError) -> LabRecord {
        var record = LabRecord(
            plan: plan,
            binary: binary,
            supervisor: supervisor,
            environment: daemonEnvironment(),
            hosts: (1...plan.hosts).map { LabHost(name: "host\($0)", index: $0, rate: plan.rate) }
        )
        for directory in [layout.images, layout.run, layout.configuration] {
            record.created += try makeDirectories(directory)
        }
        for host in record.hosts {
            let files = layout.files(of: host.name)
            try makeDirectories(files.state + "/images")
            try makeDirectories(files.configuration)
            try write(configuration(of: host), to: files.configuration + "/smirun.toml")
        }
        if let first = record.hosts.first {
            try write(accessPoints(of: record), to: layout.files(of: first.name).configuration + "/aps.csv")
        }
        try RecordFile.store(record, at: layout.record)
        return record
    }

    /// What the hosts' commands are to find in their environment: the host's socket, where the product's own parts are,
    /// and a plain rest.
    private func daemonEnvironment() -> [String] {
        let own = ProcessInfo.processInfo.environment
        let passed = own.filter { $0.key.hasPrefix("SMIRUN_") && $0.key != "SMIRUN_SOCKET" }
        let socket = "SMIRUN_SOCKET=\(layout.run)/\(LabLayout.sockets[0])"
        return ["HOME=/root", socket] + SpawnRequest.plainEnvironment + passed.map { "\($0.key)=\($0.value)" }.sorted()
    }

    private func configuration(of host: LabHost) -> String {
        """
        # Written by `smirun lab up`.
        [host]
        state = "\(layout.state)"
        run = "\(layout.run)"
        cgroup_root = "\(layout.cgroup(of: host.name))"

        """
    }

    private func accessPoints(of record: LabRecord) -> String {
        let rows = record.hosts.map { host in
            let x = record.plan.spacing * Double(host.index - 1)
            return "\(host.accessPoint),\(LabPlan.plain(x)),0,\(host.name)\n"
        }
        return "ap,x_m,y_m,host\n" + rows.joined()
    }

    private func write(_ text: String, to path: String) throws(LabError) {
        try during("writing the hosts' configuration") { () throws(SyscallError) in
            try FileContents.replace(path, with: Array(text.utf8))
        }
    }

    /// Makes what is missing and waits until all of it is ready; takes everything down again if that fails.
    private func bringUp(_ record: LabRecord) throws(LabError) {
        var record = record
        let wasUp = record.phase == .up
        do {
            let missing = record.hosts.filter { !$0.isAlive }
            try makeHosts(&record)
            try linkSockets(record)
            let cluster = LabCluster(lab: self)
            try ensureSupervisor(record)
            if let holder = record.fabric {
                try LabFabric(fabric: holder, isDelayed: record.plan.delay > 0).awaitCarriers(record.hosts)
            }
            try cluster.form(&record)
            if !wasUp { try cluster.importAccessPoints(record) }
            record.phase = .up
            try RecordFile.store(record, at: layout.record)
            if wasUp && !missing.isEmpty {
                progress("made again: \(missing.map(\.name).joined(separator: ", "))")
            }
        } catch {
            // What runs goes on running when a lab that was up could not be completed.
            if !wasUp { abandon(record) }
            throw error
        }
    }

    private func abandon(_ record: LabRecord) {
        guard (try? takeDown(keepingLogs: true)) != nil else { return }
        var record = record
        record.phase = .failed
        try? RecordFile.store(record, at: layout.record)
    }

    /// Makes the namespaces and links that are missing.
    private func makeHosts(_ record: inout LabRecord) throws(LabError) {
        let namespaces = LabNamespaces(layout: layout)
        let fabricIsNew = !(record.fabric?.isAlive ?? false)
        let missing = record.hosts.indices.filter { !record.hosts[$0].isAlive }
        if missing.isEmpty && !fabricIsNew { return }
        progress("making \(missing.count == 1 ? "1 host" : "\(missing.count) hosts")")
        // Not before it has its link is a host one that the supervisor can start anything on.
        for index in missing { record.hosts[index].isOff = true }
        record.revision += 1
        try RecordFile.store(record, at: layout.record)
        awaitSupervisor(revision: record.revision)
        // Of a host that lost its holder only, the rest still runs, in namespaces that nobody can enter any more.
        for index in missing { try end(record.hosts[index]) }
        let fabricStart = fabricIsNew ? try namespaces.beginFabric() : nil
        var starts: [(Int, LabNamespaces.Start)] = []
        for index in missing { starts.append((index, try namespaces.begin(record.hosts[index]))) }
        if let fabricStart { record.fabric = try namespaces.finish(fabricStart) }
        for (index, start) in starts { record.hosts[index].holder = try namespaces.finish(start) }
        try RecordFile.store(record, at: layout.record)
        // A new fabric has no link yet, whatever hosts still live.
        let unconnected = fabricIsNew ? Array(record.hosts.indices) : missing
        try connect(unconnected.map { record.hosts[$0] }, record, fabricIsNew: fabricIsNew)
        for index in unconnected {
            record.hosts[index].isCut = false
            record.hosts[index].isOff = false
        }
        try RecordFile.store(record, at: layout.record)
    }

    private func connect(_ hosts: [LabHost], _ record: LabRecord, fabricIsNew: Bool) throws(LabError) {
        guard let holder = record.fabric else { return }
        let fabric = LabFabric(fabric: holder, isDelayed: record.plan.delay > 0)
        if fabricIsNew {
            try fabric.makeBridge()
        } else {
            for host in hosts { try fabric.disconnect(host) }
        }
        try fabric.connect(hosts)
    }

    /// Starts the supervisor unless one runs.
    func ensureSupervisor(_ record: LabRecord) throws(LabError) {
        if let running = RecordFile.load(SupervisorRecord.self, from: layout.supervisorRecord)?.process, running.isAlive
        {
            running.signal(SIGCONT)
            WakeUp.send(layout.supervisorPipe)
            return
        }
        try during("starting the supervisor") { () throws(SyscallError) in
            var command = HelperCommand([record.supervisor, "lab", "supervise"] + layout.arguments)
            command.environment = record.environment
            command.directory = "/"
            command.newSession = true
            let cgroup = CgroupTree(layout.cgroup + "/supervisor")
            try cgroup.create()
            command.cgroup = cgroup
            let log = try Descriptor(open: layout.supervisorLog, O_WRONLY | O_CREAT | O_APPEND)
            _ = try command.start([1: log, 2: log])
        }
    }
}
