extension HostAgent {
    /// The access points of the cluster.
    package func accessPoints() async throws -> [AccessPointView] {
        try await around.store.records(AccessPointRecord.self, prefix: AccessPointRecord.prefix).map {
            AccessPointView(ap: $0.record.name, host: $0.record.host, x: $0.record.x, y: $0.record.y)
        }
    }

    /// Adds access points, or changes those of the same name; their hosts must be in the cluster.
    package func importAccessPoints(_ views: [AccessPointView]) async throws {
        let hosts = try await around.store.records(HostRecord.self, prefix: HostRecord.prefix).map(\.record.name)
        for view in views where !hosts.contains(view.host) {
            throw OrchestratorError(
                .hostUnknown,
                cause: "access point \(view.ap) names host \(view.host), which is not in this cluster",
                remedy: "let the host join first; nothing was imported"
            )
        }
        for view in views {
            let record = AccessPointRecord(name: view.ap, host: view.host, x: view.x, y: view.y)
            try await around.store.write(AccessPointRecord.key(view.ap), record, expect: .any)
        }
    }
}
