import Mobility

extension UserFollower {
    /// Makes the replica plan of a user anew and gives it to the owner, unless the SMI is on its way.
    func plan(_ user: String) {
        guard let known = followed[user], known.isRunning, !known.follow.isMoving, known.prediction != nil else {
            return
        }
        guard !known.isPlanning else {
            followed[user]?.planAgain = true
            return
        }
        followed[user]?.isPlanning = true
        Task { [weak self] in await self?.makePlan(user) }
    }

    private func makePlan(_ user: String) async {
        guard let owner = followed[user]?.follow.owner else { return }
        do {
            if let figures = try await around.actions.figures(of: user, at: owner),
                let plan = plan(user, owner: owner, figures)
            {
                try await around.actions.place(plan, at: owner)
            }
        } catch {
            // The owner may just have changed; the next association plans again.
            around.logger.debug("no plan", metadata: ["user": "\(user)", "error": "\(error)"])
        }
        followed[user]?.isPlanning = false
        guard followed[user]?.planAgain == true else { return }
        followed[user]?.planAgain = false
        plan(user)
    }

    private func plan(_ user: String, owner: String, _ figures: ReplicationFigures) -> ReplicaPlan? {
        // The SMI may have moved while its owner was asked.
        guard let known = followed[user], known.follow.owner == owner, let prediction = known.prediction else {
            return nil
        }
        let input = ReplicaPlanInput(
            owner: owner,
            previousOwner: known.previousOwner == owner ? nil : known.previousOwner,
            bytes: figures.bytes,
            dirtyBytesPerSecond: figures.dirtyBytesPerSecond ?? 0,
            linkBytesPerSecond: figures.linkBytesPerSecond ?? links[owner] ?? Self.assumedLink,
            hosts: figures.hosts
        )
        let plan = planner.plan(prediction, map: map, input: input)
        let seconds = plan.entries.compactMap(\.replicationSeconds).max()
        // Lead times are for the predictor to learn: whole seconds, so that it meets the same ones again.
        followed[user]?.lead = seconds.map { min(max($0.rounded(), 1), 120) }
        return plan
    }
}
